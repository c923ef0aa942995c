"""Does scripts/apt.sh ask the system's own package sources for other suites?

SPDX-License-Identifier: GPL-2.0-or-later
"""

import glob
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))

LIST = '''# deb http://example.invalid/debian bookworm main
deb [signed-by=/key] http://example.invalid/debian bookworm main contrib
deb http://example.invalid/debian bookworm-updates main
deb http://other.invalid/apt stuff main
'''

SOURCES = '''Types: deb
URIs: http://example.invalid/bookworm
# bookworm
Suites: bookworm bookworm-security
Components: main

Types: deb
URIs: http://other.invalid/apt
Suites: nodistro
Components: main
'''


class SuiteTest(unittest.TestCase):
    def setUp(self):
        self.top = self.enterContext(tempfile.TemporaryDirectory())
        os.makedirs(f'{self.top}/apt/sources.list.d')
        self.write('os-release', 'VERSION_CODENAME=bookworm\n')
        with open(f'{HERE}/apt.sh', encoding='utf-8') as file:
            self.write('apt.sh', file.read().replace('/etc/', f'{self.top}/'))

    def write(self, path, text):
        with open(f'{self.top}/{path}', 'w', encoding='utf-8') as file:
            file.write(text)

    def entries(self, kind, suite):
        """What apt-get reads, without comments and empty lines"""
        done = subprocess.run(
            ['bash', '-euc', 'die() { echo "$*"; exit 1; }; cache=$1/cache; '
             '. "$1/apt.sh"; use_suite "$2" "$3"', 'x', self.top, kind, suite],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False)
        if done.returncode:
            return done.stdout
        text = ''
        for path in glob.glob(f'{self.top}/cache/apt/sources.list.d/*'):
            with open(path, encoding='utf-8') as file:
                text += file.read()
        return [line for line in text.splitlines()
                if line and not line.startswith('#')]

    def test_list(self):
        self.write('apt/sources.list', LIST)
        self.assertEqual(self.entries('deb-src', 'sid'), [
            'deb-src [signed-by=/key] http://example.invalid/debian sid main '
            'contrib', 'deb-src http://example.invalid/debian sid-updates main'])

    def test_sources(self):
        self.write('apt/sources.list.d/a.sources', SOURCES)
        self.assertEqual(self.entries('deb-src', 'trixie'), [
            'Types: deb-src', 'URIs: http://example.invalid/bookworm',
            'Suites: trixie trixie-security', 'Components: main'])

    def test_older_release(self):
        self.write('os-release', 'VERSION_CODENAME=trixie\n')
        self.write('apt/sources.list', LIST.replace('bookworm', 'trixie'))
        self.assertEqual(self.entries('deb-src', 'bookworm')[1],
                         'deb-src http://example.invalid/debian '
                         'bookworm-updates main')

    def test_release_by_another_name(self):
        self.write('apt/sources.list', LIST.replace('bookworm', 'stable'))
        self.assertEqual(self.entries('deb-src', 'bookworm')[1],
                         'deb-src http://example.invalid/debian '
                         'bookworm-updates main')

    def test_suite_beside(self):
        self.write('apt/sources.list', LIST)
        self.assertEqual(self.entries('deb', 'bookworm-backports')[1],
                         'deb http://example.invalid/debian '
                         'bookworm-backports main')

    def test_no_source(self):
        self.write('apt/sources.list', 'deb http://other.invalid/apt x main\n')
        self.assertIn('no package source', self.entries('deb', 'bookworm'))


if __name__ == '__main__':
    unittest.main()
