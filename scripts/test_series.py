"""Tests of how the series is kept: series.py, format-series, import-series,
check-series

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

# In place of build-qemu: `broken` and `failing` are shell conditions, on which
# $tree does not build, or builds a test that fails.
BUILD_QEMU = '''#!/bin/bash
cd "$(dirname "$0")/../build/check-series"
mkdir -p 7.2${1#series}/tests/{unit,qtest}
echo $1 >>../variants
cd 7.2${1#series}
tree=../qemu-7.2
eval "{broken}" && exit 1
result=
eval "{failing}" && result="not "
printf '#!/bin/sh\\necho 1..1; echo %sok 1 /a' "$result" >tests/unit/test-dirty-a
printf '#!/bin/sh\\necho 1..1; echo ok 1 /b' >tests/qtest/test-hmp
chmod +x tests/*/*
echo tests/unit/test-dirty-a tests/qtest/test-hmp >tests-built
'''

CHECKPATCH = '''#!/usr/bin/perl
for (@ARGV) {{ print "$_:1: ERROR: bad\\n" if /{bad}/; }}
'''


class SeriesTest(unittest.TestCase):
    def setUp(self):
        self.top = self.enterContext(tempfile.TemporaryDirectory())
        for name in ('common.sh', 'overlay-files', 'series.py',
                     'format-series', 'import-series', 'check',
                     'check-series'):
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

    def run_script(self, name, *args):
        return subprocess.run([f'{self.top}/scripts/{name}', *args], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)

    def good(self, name, *args):
        done = self.run_script(name, *args)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def bad(self, name, text):
        done = self.run_script(name)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(text, done.stdout)
        return done.stdout

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

    def lay_out(self, broken='false', failing='false', bad='nothing'):
        """A series for check-series, and what it finds of it"""
        self.write('scripts/build-qemu',
                   BUILD_QEMU.replace('{broken}', broken)
                   .replace('{failing}', failing))
        os.chmod(f'{self.top}/scripts/build-qemu', 0o755)
        for tree in 'pristine-7.2', 'qemu-7.2':
            self.write(f'build/{tree}/scripts/checkpatch.pl',
                       CHECKPATCH.format(bad=bad))
        self.good('format-series')

    def test_check_series(self):
        self.lay_out()
        lines = self.good('check-series').splitlines()
        self.assertRegex(lines[-5], '^0001  accel: a file that grows: [+]2 -0, '
                         'build ok, 4 passed, 0 failed, 0 skipped')
        self.assertRegex(lines[-4], '^0002  accel: it grows: [+]1 -0, build ok, 4')
        self.assertRegex(lines[-3], '^default .* build ok, 3 passed')
        self.assertIn('2 patches; most product lines, +2 -0', lines[-2])

    def test_check_series_goes_on(self):
        self.lay_out()
        self.good('check-series')
        os.remove(f'{self.top}/build/variants')
        out = self.good('check-series', '--from', '1', '--to', '1')
        self.assertIn('0001', out)
        self.assertNotIn('0002', out)
        self.assertNotIn('default', out)
        self.assertFalse(os.path.exists(
            f'{self.top}/build/check-series/qemu-7.2/docs/page.rst'))
        # Who works on the series as commits is not disturbed.
        self.assertEqual(self.git('status', '--porcelain'), '')
        self.assertNotIn('0001', self.good('check-series', '--from', '2'))
        with open(f'{self.top}/build/variants', encoding='utf-8') as file:
            self.assertEqual(file.read(), 'series\nseries\nseries-default\n')

    def test_check_series_needs_what_comes_later(self):
        self.lay_out(broken='! grep -q two $tree/accel/grows.c')
        out = self.bad('check-series', '1 failed')
        self.assertRegex(out, '0001 .* build FAILED')
        self.assertRegex(out, '0002 .* build ok')

    def test_check_series_with_a_test_that_fails(self):
        self.lay_out(failing='! grep -q two $tree/accel/grows.c')
        out = self.bad('check-series', 'FAILED  test-dirty-a: /a')
        self.assertRegex(out, '0001 .* build ok, 3 passed, 1 failed')
        self.assertRegex(out, '0002 .* 0 failed')

    def test_check_series_with_the_default_features(self):
        self.lay_out(broken='[[ $PWD = *-default ]]')
        self.assertRegex(self.bad('check-series', '1 failed'),
                         'default .* build FAILED')

    def test_check_series_with_checkpatch(self):
        self.lay_out(bad='0002-')
        out = self.bad('check-series', 'FAILED  checkpatch')
        self.assertRegex(out, '0001 .* 0 failed')
        self.assertRegex(out, '0002 .* 1 failed')


if __name__ == '__main__':
    unittest.main()
