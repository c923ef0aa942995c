"""Does scripts/check notice every way in which a test program can go wrong?

SPDX-License-Identifier: GPL-2.0-or-later
"""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))


def load_check():
    """scripts/check has no name that `import` would take."""
    loader = importlib.machinery.SourceFileLoader('check', f'{HERE}/check')
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader('check', loader))
    loader.exec_module(module)
    return module


def alive(pid):
    """A killed process stays for a moment, as a zombie until it is looked after."""
    deadline = time.monotonic() + 10
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return running(pid)


def running(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


class TapCase(unittest.TestCase):
    """Run a program the way scripts/check does and count its results."""

    def setUp(self):
        logs = tempfile.TemporaryDirectory()
        self.addCleanup(logs.cleanup)
        self.check = load_check()
        self.check.LOGS = logs.name

    def run_program(self, command, timeout=20, **kwargs):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.check.run_tap('program', command, timeout, **kwargs)
        self.printed = out.getvalue()
        results = self.check.results
        return results.passed, len(results.failed), results.skipped

    def shell(self, script, *args, **kwargs):
        return self.run_program(['sh', '-c', script], *args, **kwargs)


class TapTest(TapCase):
    def test_good(self):
        self.assertEqual(self.shell('echo 1..2; echo ok 1 /a; echo ok 2 /b'),
                         (2, 0, 0))

    def test_plan_last(self):
        self.assertEqual(self.shell('echo ok 1 /a; echo 1..1'), (1, 0, 0))

    def test_failure(self):
        self.assertEqual(self.shell('echo 1..2; echo "# because"; echo not ok 1 /a; '
                                    'echo noise >&2; echo ok 2 /b; exit 1'),
                         (1, 1, 0))
        self.assertIn('| # because', self.printed)
        self.assertIn('| noise', self.printed)

    def test_failure_without_exit_status(self):
        self.assertEqual(self.shell('echo 1..1; echo not ok 1 /a'), (0, 1, 0))

    def test_failure_then_end(self):
        self.assertEqual(self.shell('echo 1..3; echo not ok 1 /a; exit 1'), (0, 2, 0))

    def test_crash(self):
        self.assertEqual(self.shell('echo 1..2; echo ok 1 /a; kill -SEGV $$'),
                         (1, 1, 0))
        self.assertIn('killed by SIGSEGV', self.printed)

    def test_crash_after_last_test(self):
        self.assertEqual(self.shell('echo 1..1; echo ok 1 /a; kill -ABRT $$'),
                         (1, 1, 0))

    def test_exit_status_after_last_test(self):
        self.assertEqual(self.shell('echo 1..1; echo ok 1 /a; exit 3'), (1, 1, 0))

    def test_bail_out(self):
        self.assertEqual(self.shell('echo 1..1; echo ok 1 /a; echo Bail out!'),
                         (1, 1, 0))

    def test_nothing(self):
        self.assertEqual(self.shell('true'), (0, 1, 0))

    def test_no_test(self):
        self.assertEqual(self.shell('echo 1..0'), (0, 1, 0))

    def test_missing_test(self):
        self.assertEqual(self.shell('echo 1..2; echo ok 1 /a'), (1, 1, 0))

    def test_surplus_test(self):
        self.assertEqual(self.shell('echo 1..1; echo ok 1 /a; echo ok 2 /b'),
                         (2, 1, 0))

    def test_no_plan(self):
        self.assertEqual(self.shell('echo ok 1 /a'), (1, 1, 0))

    def test_absent_program(self):
        self.assertEqual(self.run_program(['/nonexistent']), (0, 1, 0))

    def test_timeout(self):
        self.assertEqual(self.shell('echo 1..1; echo ok 1 /a; sleep 60', 0.5),
                         (1, 1, 0))

    def test_process_left_behind(self):
        self.assertEqual(self.shell('echo 1..1; sleep 60 & echo $! >&2; echo ok 1 /a'),
                         (1, 0, 0))
        with open(self.check.log_path('program', '.err'), encoding='utf-8') as file:
            pid = int(file.read())
        self.assertFalse(alive(pid))

    def test_skip(self):
        self.assertEqual(self.shell('echo 1..2; echo "ok 1 /a # SKIP no KVM"; '
                                    'echo ok 2 /b'), (1, 0, 1))
        self.assertIn('no KVM', self.printed)

    def test_excluded(self):
        self.assertEqual(self.shell('echo 1..1; echo "ok 1 /a # SKIP by request"',
                                    excluded={'/a': 'the reason'}), (0, 0, 1))
        self.assertIn('the reason', self.printed)

    def test_skip_all(self):
        self.assertEqual(self.shell('echo "1..0 # SKIP no KVM"'), (0, 0, 1))

    def test_incomplete_is_no_pass(self):
        self.assertEqual(self.shell('echo 1..1; echo "not ok 1 /a # TODO later"'),
                         (0, 1, 0))


class UnittestTapTest(TapCase):
    """The same for Python's tests, which scripts/unittest-tap turns into TAP."""

    def module(self, text, *args):
        where = tempfile.TemporaryDirectory()
        self.addCleanup(where.cleanup)
        with open(f'{where.name}/test_it.py', 'w', encoding='utf-8') as file:
            file.write(f'import os, unittest\n{text}\n')
        return self.run_program([self.check.PYTHON, f'{HERE}/unittest-tap', 'test_it'],
                                *args, env={'PYTHONPATH': where.name})

    def case(self, body, prologue=''):
        return self.module(f'class C(unittest.TestCase):\n{prologue}'
                           f'    def test_a(self):\n        {body}\n')

    def test_python(self):
        for body, wanted in (('print("ok 7 /not/a/test")', (1, 0, 0)),
                             ('self.fail("because")', (0, 1, 0)),
                             ('raise ValueError', (0, 1, 0)),
                             ('self.skipTest("no KVM")', (0, 0, 1)),
                             ('os._exit(0)', (0, 1, 0)),
                             ('os.abort()', (0, 1, 0))):
            with self.subTest(body):
                self.check.results = self.check.Results()
                self.assertEqual(self.case(body), wanted)

    def test_python_subtests(self):
        self.assertEqual(self.case('for i in range(3):\n'
                                   '            with self.subTest(i=i):\n'
                                   '                self.assertEqual(i, 0)'), (0, 1, 0))

    def test_python_class_setup(self):
        prologue = '    @classmethod\n    def setUpClass(cls):\n        '
        self.assertEqual(self.case('pass', prologue + 'raise ValueError\n'), (0, 1, 0))
        self.check.results = self.check.Results()
        self.assertEqual(self.case('pass', prologue + 'raise unittest.SkipTest("no")\n'),
                         (0, 0, 1))

    def test_python_no_module(self):
        self.assertEqual(self.module('import nonexistent'), (0, 1, 0))

    def test_python_no_test(self):
        self.assertEqual(self.module(''), (0, 1, 0))


class LanesTest(TapCase):
    """Groups that run at the same time, and one after another"""

    def setUp(self):
        super().setUp()
        where = tempfile.TemporaryDirectory()
        self.addCleanup(where.cleanup)
        self.where = where.name

    def group(self, name, script):
        """A group that is one program, which runs in a directory of its own"""
        self.check.GROUPS[name] = lambda: self.check.run_plain(
            name, ['sh', '-c', script], 60, cwd=self.where)

    def run_together(self, *lanes):
        with contextlib.redirect_stdout(io.StringIO()):
            self.check.run_together(lanes)
        return self.check.results.passed, self.check.results.failed

    def test_at_the_same_time(self):
        wait = 'touch {}; until [ -e {} ]; do sleep 0.05; done'
        self.group('a', wait.format('a', 'b'))
        self.group('b', wait.format('b', 'a'))
        self.assertEqual(self.run_together(['a'], [], ['b']), (2, []))
        self.assertEqual(set(self.check.results.took), {'a', 'b'})

    def test_one_after_another(self):
        self.group('a', 'sleep 0.2; touch a')
        self.group('b', 'test -e a')
        self.assertEqual(self.run_together(['a', 'b']), (2, []))

    def test_after_one_that_breaks(self):
        self.check.GROUPS['a'] = lambda: {}['nothing']
        self.group('b', 'true')
        passed, (failed,) = self.run_together(['a', 'b'])
        self.assertEqual(passed, 1)
        self.assertIn('KeyError', failed)

    def test_terminated(self):
        """Nothing is left that runs, and nothing more is started"""
        script = f"""
import sys
sys.path.insert(0, {HERE!r})
from test_check import load_check
check = load_check()
check.LOGS = {self.where!r}
check.signal.signal(check.signal.SIGTERM, check.terminate)
for name in 'a', 'b':
    check.GROUPS[name] = lambda name=name: [check.execute(
        name, ['sh', '-c', 'echo $$ >>pids; exec sleep 60'], 60,
        cwd={self.where!r}) for _ in range(2)]
check.run_together([['a'], ['b']])
"""
        pids = []
        with subprocess.Popen([sys.executable, '-B', '-c', script]) as process:
            deadline = time.monotonic() + 20
            while len(pids) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
                with contextlib.suppress(FileNotFoundError), \
                        open(f'{self.where}/pids', encoding='utf-8') as file:
                    pids = file.read().split()
            process.terminate()
            self.assertEqual(process.wait(20), 128 + signal.SIGTERM)
        with open(f'{self.where}/pids', encoding='utf-8') as file:
            pids = file.read().split()
        self.assertEqual(len(pids), 2)
        self.assertFalse([pid for pid in pids if alive(pid)])


class PackagesTest(unittest.TestCase):
    """Which package of tests may import which, and what its classes are called"""

    def complaints(self, **texts):
        """What is said of modules that are called package__module here"""
        where = tempfile.TemporaryDirectory()
        self.addCleanup(where.cleanup)
        for name, text in texts.items():
            path = os.path.join(where.name, name.replace('__', '/') + '.py')
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
        return load_check().packages(where.name)

    def test_downwards(self):
        self.assertEqual(self.complaints(
            guestperf__a='from guestperf import b\nfrom stressvm.vm import VM',
            dirtythrottle__chaos__a='import stressvm.vm\nfrom . import b'), [])

    def test_upwards(self):
        self.assertEqual(self.complaints(
            stressvm__a='import guestperf.batch',
            dirtythrottle__chaos__a='def f():\n    from guestperf import batch',
            guestperf__a='from dirtythrottle.base import SOON'), [
                'stressvm/a.py imports guestperf.batch',
                'dirtythrottle/chaos/a.py imports guestperf',
                'guestperf/a.py imports dirtythrottle.base'])

    def test_one_name_of_two_classes(self):
        self.assertEqual(self.complaints(
            stressvm__a='class C:\n    pass', stressvm__b='class D(C):\n    pass',
            guestperf__a='class C:\n    pass'), [
                'C is a class of stressvm/a.py and of guestperf/a.py'])


if __name__ == '__main__':
    unittest.main()
