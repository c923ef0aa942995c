"""Does include-graph draw what is there, and notice what must not be?

SPDX-License-Identifier: GPL-2.0-or-later
"""

import os
import shutil
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))

# A house as it should be
CLEAN = {
    'accel/kvm/top.h': 'void top(void);\n',
    'accel/kvm/top.c': '#include "qemu/osdep.h"\n'
                       '#include "top.h"\n#include "ring.h"\n'
                       'void top(void)\n{\n    ring();\n    start();\n}\n',
    'accel/kvm/ring.h': '#include "migration/face.h"\n'
                        '#include "migration/dirty-throttle/ring-pace.h"\n'
                        '/* Called by top() */\nvoid ring(void);\n',
    'accel/kvm/ring.c': '#include "ring.h"\n'
                        'static int top_name;\n'
                        'void ring(void)\n{\n    say("top()");\n'
                        '    thing->top = pace();\n}\n',
    'include/migration/face.h': '#include "qemu/thread.h"\nint start(void);\n',
    'migration/face.c': '#include "migration/face.h"\n'
                        '#include "dirty-throttle/pace.h"\n'
                        'int start(void)\n{\n    return pace();\n}\n',
    'migration/dirty-throttle/pace.h': 'int pace(void);\n',
    'migration/dirty-throttle/pace.c': '#include "qemu/osdep.h"\n'
                                       '#include "pace.h"\n'
                                       'int pace(void)\n{\n    return 1;\n}\n',
    'migration/dirty-throttle/ring-pace.h': '#include "pace.h"\n',
}

DRAWN = '''\
What files include
floor 3
    accel/kvm/top.[ch]
        -> accel/kvm/ring.[ch]
floor 2
    accel/kvm/ring.[ch]
        -> include/migration/face.h migration/dirty-throttle/ring-pace.h
floor 1
    migration/dirty-throttle/ring-pace.h
        -> migration/dirty-throttle/pace.[ch]
    migration/face.c
        -> include/migration/face.h migration/dirty-throttle/pace.[ch]
floor 0
    include/migration/face.h
    migration/dirty-throttle/pace.[ch]
What files call
floor 2
    accel/kvm/top.[ch]
        -> accel/kvm/ring.[ch] migration/face.c
floor 1
    accel/kvm/ring.[ch]
        -> migration/dirty-throttle/pace.[ch]
    migration/face.c
        -> migration/dirty-throttle/pace.[ch]
floor 0
    include/migration/face.h
    migration/dirty-throttle/pace.[ch]
    migration/dirty-throttle/ring-pace.h
'''


class IncludeGraphTest(unittest.TestCase):
    def setUp(self):
        self.top = self.enterContext(tempfile.TemporaryDirectory())
        os.mkdir(f'{self.top}/scripts')
        for name in ('base', 'common.sh', 'overlay-files', 'series.py',
                     'include-graph'):
            shutil.copy(f'{HERE}/{name}', f'{self.top}/scripts/{name}')
        os.makedirs(f'{self.top}/patches/1.0')
        with open(f'{self.top}/patches/1.0/base', 'w', encoding='utf-8'):
            pass
        for path, text in CLEAN.items():
            self.write(path, text)

    def write(self, path, text, mode='w'):
        path = f'{self.top}/{path}'
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, mode, encoding='utf-8') as file:
            file.write(text)

    def append(self, path, text):
        self.write(path, text, 'a')

    def run_script(self):
        return subprocess.run([f'{self.top}/scripts/include-graph'], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**os.environ, 'BASE': ''}, check=False)

    def good(self):
        done = self.run_script()
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def bad(self, *offences):
        done = self.run_script()
        lines = done.stderr.splitlines()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(len(lines), len(offences), done.stderr)
        for line, offence in zip(lines, offences):
            self.assertIn(offence, line)

    def test_clean(self):
        self.assertEqual(self.good(), DRAWN)

    def test_two_headers(self):
        self.append('accel/kvm/ring.h', '#include "top.h"\n')
        self.bad('include each other: accel/kvm/ring.[ch] -> '
                 'accel/kvm/top.[ch] -> accel/kvm/ring.[ch]')

    def test_over_others(self):
        self.append('migration/dirty-throttle/pace.h', '#include "a.h"\n')
        self.write('migration/dirty-throttle/a.h', '# include "b.h"\n')
        self.write('migration/dirty-throttle/b.h',
                   '#include "migration/dirty-throttle/ring-pace.h"\n')
        self.bad('/a.h -> migration/dirty-throttle/b.h -> '
                 'migration/dirty-throttle/ring-pace.h -> '
                 'migration/dirty-throttle/pace.[ch] -> '
                 'migration/dirty-throttle/a.h')

    def test_two_circles(self):
        self.append('accel/kvm/ring.h', '#include "top.h"\n')
        self.append('migration/dirty-throttle/pace.h',
                    '#include "ring-pace.h"\n')
        self.bad('accel/kvm/ring.[ch] ->',
                 'migration/dirty-throttle/pace.[ch] ->')

    def test_commented_out(self):
        self.append('accel/kvm/ring.h', '/*\n#include "top.h"\n*/\n')
        self.good()

    def test_engine_needs_qemu(self):
        self.append('migration/dirty-throttle/pace.c',
                    '#include "qemu/timer.h"\n#include <time.h>\n')
        self.bad('pace.c includes qemu/timer.h', 'pace.c includes time.h')

    def test_engine_looks_up(self):
        self.append('migration/dirty-throttle/pace.c',
                    '#include "migration/face.h"\n')
        self.bad('pace.c includes include/migration/face.h')

    def test_interface_shows_private(self):
        self.append('include/migration/face.h',
                    '#include "migration/dirty-throttle/pace.h"\n')
        self.bad('face.h includes migration/dirty-throttle/pace.h')

    def test_accelerator_looks_inside(self):
        self.write('migration/face-int.h', '')
        self.append('accel/kvm/ring.c', '#include "migration/face-int.h"\n'
                    '#include "migration/dirty-throttle/pace.h"\n')
        self.bad('ring.c includes migration/face-int.h',
                 'ring.c includes migration/dirty-throttle/pace.h')

    def test_private_takes_the_name(self):
        """The compiler looks at the top before it looks below include/."""
        self.write('migration/face.h', '')
        self.bad('ring.h includes migration/face.h')

    def test_migration_looks_up(self):
        self.append('migration/face.c', '#include "../accel/kvm/ring.h"\n')
        self.bad('migration/face.c includes accel/kvm/ring.h')

    def test_calls(self):
        self.append('accel/kvm/ring.c',
                    'static void again(void)\n{\n    top();\n}\n')
        self.bad('call each other: accel/kvm/ring.[ch] -> accel/kvm/top.[ch] '
                 '(top) -> accel/kvm/ring.[ch] (ring)')

    def test_hands_on_a_function(self):
        self.append('accel/kvm/ring.c', 'static Ops ops = {\n    .f = top,\n};\n')
        self.bad('call each other')

    def test_calls_from_a_header(self):
        self.append('accel/kvm/ring.h', 'static inline void again(void)\n'
                    '{\n    if (x) {\n        top();\n    }\n}\n')
        self.bad('call each other')

    def test_calls_into_a_header(self):
        self.append('accel/kvm/top.h', 'static inline int look(void)\n'
                    '{\n    return 1;\n}\n')
        self.append('accel/kvm/ring.c',
                    'static void again(void)\n{\n    look();\n}\n')
        self.bad('(look)')

    def test_static_of_the_same_name(self):
        self.append('accel/kvm/ring.c', 'static void enter(void)\n{\n}\n')
        self.append('accel/kvm/top.c', 'static void enter(void)\n{\n}\n')
        self.good()


if __name__ == '__main__':
    unittest.main()
