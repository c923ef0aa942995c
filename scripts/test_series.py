"""Tests of how the series is kept: series.py, format-series, import-series

They work on a repository with a QEMU of three files.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import os
import shutil
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
SIGNED = 'Signed-off-by: A <a@b.example>'

FIRST = f'''Subject: accel: a file that grows

Why.

Adds: accel/grows.c

{SIGNED}
---

--- a/accel/meson.build
+++ b/accel/meson.build
@@ -1 +1,2 @@
 old
+grows
'''

SECOND = f'''Subject: accel: it grows

Adds: docs/*

{SIGNED}
---

'''

GROWS = '''--- a/accel/grows.c
+++ b/accel/grows.c
@@ -1 +1,2 @@
 one
+two
'''


class SeriesTest(unittest.TestCase):
    def setUp(self):
        self.top = self.enterContext(tempfile.TemporaryDirectory())
        for name in ('common.sh', 'overlay-files', 'series.py',
                     'format-series', 'import-series'):
            os.makedirs(f'{self.top}/scripts', exist_ok=True)
            shutil.copy(f'{HERE}/{name}', f'{self.top}/scripts/{name}')
        self.write('build/pristine-7.2.origin', 'qemu_7.2.dsc\n')
        for tree in 'pristine-7.2', 'qemu-7.2':
            self.write(f'build/{tree}/VERSION', '7.2\n')
        self.write('build/pristine-7.2/accel/meson.build', 'old\n')
        self.write('build/qemu-7.2/accel/meson.build', 'old\ngrows\n')
        for where in '', 'build/qemu-7.2/':
            self.write(f'{where}accel/grows.c', 'one\ntwo\n')
            self.write(f'{where}docs/page.rst', 'page\n')
        self.write('patches/7.2/cover-letter.txt', 'Subject: cover\n\nText.\n')
        self.write('patches/7.2/0001-grows.patch', FIRST)
        self.write('patches/7.2/0002-it-grows.patch', SECOND)
        self.write('patches/7.2/steps/0002-it-grows.patch', GROWS)
        self.write('patches/7.2/series',
                   '0001-grows.patch\n#added-only 0002-it-grows.patch\n')

    def write(self, path, text):
        path = f'{self.top}/{path}'
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)

    def patches(self):
        """All that patches/7.2 says, by path"""
        found = {}
        for where, _, names in os.walk(f'{self.top}/patches/7.2'):
            for name in names:
                with open(f'{where}/{name}', encoding='utf-8') as file:
                    found[os.path.relpath(f'{where}/{name}', self.top)] = \
                        file.read()
        return found

    def run_script(self, name):
        return subprocess.run([f'{self.top}/scripts/{name}'], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)

    def good(self, name):
        done = self.run_script(name)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def bad(self, name, text):
        done = self.run_script(name)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(text, done.stdout)

    def git(self, *args):
        env = dict(os.environ, GIT_EDITOR='true', GIT_SEQUENCE_EDITOR='true')
        for who in 'AUTHOR', 'COMMITTER':
            env[f'GIT_{who}_NAME'], env[f'GIT_{who}_EMAIL'] = 'A', 'a@b.example'
        return subprocess.run(['git', '-C', f'{self.top}/build/series-tree',
                               *args], text=True, check=True, env=env,
                              stdout=subprocess.PIPE).stdout

    def test_quilt_gets_what_has_a_diff(self):
        self.assertEqual(self.good('series.py'), '0001-grows.patch\n')

    def test_steps_are_taken_back(self):
        self.good('format-series')
        self.assertEqual(self.git('show', 'series~1:accel/grows.c'), 'one\n')
        self.assertEqual(self.git('show', 'series:accel/grows.c'), 'one\ntwo\n')

    def test_counts_product_lines(self):
        self.assertIn("2 patches and a cover letter; most product lines, "
                      "+2 -0, has 'accel: a file that grows'",
                      self.good('format-series'))

    def test_counts_removed_lines_too(self):
        for where in '', 'build/qemu-7.2/':
            self.write(f'{where}accel/grows.c', 'three\nfour\n')
        self.write('patches/7.2/steps/0002-it-grows.patch',
                   '--- a/accel/grows.c\n+++ b/accel/grows.c\n'
                   '@@ -1,2 +1,2 @@\n-one\n-two\n+three\n+four\n')
        self.assertIn("+2 -2, has 'accel: it grows'",
                      self.good('format-series'))

    def test_step_that_no_longer_fits(self):
        self.write('accel/grows.c', 'one\nthree\n')
        self.bad('format-series', '0002-it-grows.patch')

    def test_step_of_no_patch(self):
        self.write('patches/7.2/steps/0003-none.patch', GROWS)
        self.bad('format-series', '0003-none.patch')

    def test_marked_as_its_diff_is(self):
        self.write('patches/7.2/series',
                   '0001-grows.patch\n0002-it-grows.patch\n')
        self.bad('series.py', 'no diff')
        self.write('patches/7.2/series', '#added-only 0001-grows.patch\n'
                   '#added-only 0002-it-grows.patch\n')
        self.bad('series.py', 'has a diff')

    def test_import_changes_nothing(self):
        before = self.patches()
        self.good('format-series')
        self.good('import-series')
        self.assertEqual({path: text.rstrip() for path, text
                          in self.patches().items()},
                         {path: text.rstrip() for path, text
                          in before.items()})

    def test_import_of_commits_that_were_joined(self):
        self.good('format-series')
        self.git('reset', '-q', '--soft', 'base')
        self.git('commit', '-q', '-m', f'accel: all at once\n\n{SIGNED}')
        self.good('import-series')
        after = self.patches()
        self.assertEqual(after['patches/7.2/series'],
                         '0001-accel-all-at-once.patch\n')
        self.assertNotIn('patches/7.2/steps/0002-it-grows.patch', after)
        self.assertIn('Adds: accel/grows.c docs/page.rst',
                      after['patches/7.2/0001-accel-all-at-once.patch'])
        self.good('format-series')

    def test_import_of_another_end(self):
        self.good('format-series')
        before = self.patches()
        self.write('build/series-tree/accel/grows.c', 'one\n')
        self.git('commit', '-q', '-a', '-m', f'accel: less\n\n{SIGNED}')
        self.bad('import-series', 'accel/grows.c')
        self.assertEqual(self.patches(), before)


if __name__ == '__main__':
    unittest.main()
