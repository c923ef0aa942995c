"""Tests of how the series is kept: series.py, source.py, format-series,
import-series, check-series, and of how prepare uses it

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


class RepositoryCase(unittest.TestCase):
    """A repository for 7.2, and the scripts in it"""

    # As the environment has it
    base = ''
    series_tree = 'build/series-tree'

    def setUp(self):
        self.top = self.enterContext(tempfile.TemporaryDirectory())
        for name in ('base', 'common.sh', 'overlay-files', 'series.py',
                     'source.py', 'format-series', 'import-series', 'check',
                     'check-series', 'unpack', 'prepare'):
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
        self.write('patches/7.2/base', 'guestperf=tests\n')
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

    def read(self, path):
        with open(f'{self.top}/{path}', encoding='utf-8') as file:
            return file.read()

    def patches(self, base='7.2'):
        """All that patches/BASE says, by path"""
        found = {}
        for where, _, names in os.walk(f'{self.top}/patches/{base}'):
            for name in names:
                with open(f'{where}/{name}', encoding='utf-8') as file:
                    found[os.path.relpath(f'{where}/{name}', self.top)] = \
                        file.read()
        return found

    def run_script(self, name, *args):
        return subprocess.run([f'{self.top}/scripts/{name}', *args], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, 'BASE': self.base},
                              check=False)

    def good(self, name, *args):
        done = self.run_script(name, *args)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def bad(self, name, text, *args):
        done = self.run_script(name, *args)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(text, done.stdout)
        return done.stdout

    def git(self, *args):
        env = dict(os.environ, GIT_EDITOR='true', GIT_SEQUENCE_EDITOR='true')
        for who in 'AUTHOR', 'COMMITTER':
            env[f'GIT_{who}_NAME'], env[f'GIT_{who}_EMAIL'] = 'A', 'a@b.example'
        return subprocess.run(['git', '-C', f'{self.top}/{self.series_tree}',
                               *args], text=True, check=True, env=env,
                              stdout=subprocess.PIPE).stdout


class SeriesTest(RepositoryCase):
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


class DerivedTest(RepositoryCase):
    """A base that is derived from 7.2: QEMU has its accel/meson.build in hw/
    and more in it, and spells `two` differently."""

    base = '8.0'
    series_tree = 'build/series-tree-8.0'
    built = None

    # What diff has of accel/meson.build, in 7.2 and where it is different
    HOOK = (' b\n old\n+grows\n c\n d\n', ' b\n older\n+grows\n c\n d\n')

    def setUp(self):
        super().setUp()
        diff = '--- a/accel/meson.build\n+++ b/accel/meson.build\n'
        self.write('patches/7.2/0001-grows.patch',
                   FIRST[:FIRST.index('---\n')]
                   .replace('Why.', 'See accel/grows.c in docs/old; src/accel/.') +
                   f'---\n\n{diff}@@ -2,4 +2,5 @@\n{self.HOOK[0]}')
        self.write('patches/8.0/base', 'from=7.2\nguestperf=tests\n')
        self.write('patches/8.0/paths', 'accel/ hw/\ndocs/old/ docs/new/\n')
        self.write('patches/8.0/spelling.sed', 's/two/TWO/\n')
        self.write('patches/8.0/series',
                   '0003-grows.patch\n#added-only 0004-it-grows.patch\n')
        self.pristine('old')

    def pristine(self, old):
        shutil.rmtree(f'{self.top}/build/qemu-8.0', ignore_errors=True)
        self.write('build/pristine-8.0.origin', f'qemu_8.0_{old}.dsc\n')
        self.write('build/pristine-8.0/VERSION', '8.0\n')
        self.write('build/pristine-8.0/hw/meson.build',
                   'more\n' * 9 + f'a\nb\n{old}\nc\nd\ne\n')

    def made(self, path):
        self.good('source.py')
        return self.read(f'build/source-8.0/{path}')

    def lay_out(self):
        self.good('prepare')
        self.good('format-series')

    def laid_out(self):
        """The same for what setUp() has made, which takes long only once"""
        if not self.built:
            self.lay_out()
            where = self.enterClassContext(tempfile.TemporaryDirectory())
            DerivedTest.built = shutil.copytree(
                f'{self.top}/build', f'{where}/build', symlinks=True)
        shutil.rmtree(f'{self.top}/build')
        shutil.copytree(self.built, f'{self.top}/build', symlinks=True)

    def own(self):
        """What patches/8.0 has besides what it says of the base"""
        return {os.path.relpath(path, 'patches/8.0'): text
                for path, text in self.patches('8.0').items()
                if not path.endswith(('/base', '/paths', '/spelling.sed'))}

    def commit(self, path, text, *args):
        self.write(f'{self.series_tree}/{path}', text)
        self.git('commit', '-q', '-a', *args)

    def test_another_base(self):
        self.base = '8'
        self.bad('source.py', "no base '8'; there are 7.2 8.0")

    def test_files_are_translated(self):
        self.assertEqual(self.made('hw/grows.c'), 'one\nTWO\n')
        self.assertEqual(self.made('docs/page.rst'), 'page\n')
        mirror = f'{self.top}/build/source-8.0'
        self.assertFalse(os.path.islink(f'{mirror}/hw/grows.c'))
        self.assertEqual(os.path.realpath(f'{mirror}/docs/page.rst'),
                         os.path.realpath(f'{self.top}/docs/page.rst'))
        self.assertEqual(self.good('overlay-files'),
                         'docs/page.rst\nhw/grows.c\n')

    def test_patches_are_translated(self):
        text = self.made('patches/8.0/0003-grows.patch')
        self.assertIn('\nAdds: hw/grows.c\n', text)
        self.assertIn('\n--- a/hw/meson.build\n+++ b/hw/meson.build\n', text)
        self.assertIn('See hw/grows.c in docs/new; src/accel/.', text)
        self.assertEqual(self.made('patches/8.0/steps/0004-it-grows.patch'),
                         GROWS.replace('accel/', 'hw/').replace('two', 'TWO'))
        self.assertIn('cover', self.made('patches/8.0/cover-letter.txt'))

    def test_own_patch_and_step(self):
        self.write('patches/8.0/0003-grows.patch', FIRST)
        self.write('patches/8.0/steps/0004-it-grows.patch', '')
        self.assertEqual(self.made('patches/8.0/0003-grows.patch'), FIRST)
        self.assertFalse(os.path.exists(
            f'{self.top}/build/source-8.0/patches/8.0/steps'))

    def test_patch_of_no_base(self):
        self.write('patches/8.0/series', '0001-grow.patch\n')
        self.bad('source.py', 'names 0001-grow.patch, which is neither')

    def test_spelling_keeps_lines(self):
        self.write('patches/8.0/spelling.sed', '/two/d\n')
        self.bad('source.py', 'may not add or remove lines, as it does in hw/')

    def test_files_that_are_left_out(self):
        self.write('patches/8.0/base', 'from=7.2\nwithout=d*.rst accel/x\n')
        self.assertNotIn('Adds:', self.made('patches/8.0/0004-it-grows.patch'))
        self.assertEqual(self.good('overlay-files'), 'hw/grows.c\n')

    def test_base_that_is_derived_from_it(self):
        self.base = '9.0'
        self.write('patches/9.0/base', 'from=8.0\n')
        self.write('patches/9.0/paths', 'hw/ hw/accel/\n')
        self.write('patches/9.0/series', '0001-grows.patch\n')
        self.good('source.py')
        where = 'build/source-9.0'
        self.assertEqual(self.read(f'{where}/hw/accel/grows.c'), 'one\nTWO\n')
        self.assertIn('+++ b/hw/accel/meson.build\n',
                      self.read(f'{where}/patches/9.0/0001-grows.patch'))

    def test_keeps_what_is_right(self):
        self.made('hw/grows.c')
        path = f'{self.top}/build/source-8.0/hw/grows.c'
        os.utime(path, (1, 1))
        self.write('docs/page.rst', 'other page\n')
        self.made('hw/grows.c')
        self.assertEqual(os.stat(path).st_mtime, 1)
        self.write('accel/grows.c', 'three\n')
        self.assertEqual(self.made('hw/grows.c'), 'three\n')

    def test_leaves_nothing(self):
        self.made('hw/grows.c')
        shutil.rmtree(f'{self.top}/accel')
        self.good('source.py')
        self.assertFalse(os.path.exists(f'{self.top}/build/source-8.0/hw'))

    def test_overwrites_no_edits(self):
        self.made('hw/grows.c')
        path = f'{self.top}/build/source-8.0/hw/grows.c'
        os.chmod(path, 0o644)
        self.write('build/source-8.0/hw/grows.c', 'work\n')
        self.bad('source.py', f'change to {self.top}/accel/grows.c')
        self.assertEqual(self.read('build/source-8.0/hw/grows.c'), 'work\n')
        # Unless they have been brought home
        self.write('accel/grows.c', 'work\n')
        self.assertEqual(self.made('hw/grows.c'), 'work\n')

    def test_overwrites_no_new_patch(self):
        self.made('hw/grows.c')
        self.write('build/source-8.0/patches/8.0/new.patch', 'work\n')
        self.bad('source.py', 'new.patch has been edited')

    def test_prepare(self):
        self.good('prepare')
        self.assertIn('\nold\ngrows\n',
                      self.read('build/qemu-8.0/hw/meson.build'))
        self.assertEqual(self.read('build/qemu-8.0/hw/grows.c'), 'one\nTWO\n')

    def test_series(self):
        self.laid_out()
        self.assertEqual(self.git('show', 'series~1:hw/grows.c'), 'one\n')
        self.assertEqual(self.git('show', 'series:hw/grows.c'), 'one\nTWO\n')
        self.assertTrue(os.path.exists(
            f'{self.top}/build/series-8.0/0002-accel-it-grows.patch'))

    def test_import_of_what_is_the_same(self):
        """Though hunks are elsewhere"""
        self.laid_out()
        self.good('import-series')
        self.assertEqual(self.own(), {
            'series': '0001-grows.patch\n#added-only 0002-it-grows.patch\n'})

    def test_import_of_another_diff(self):
        self.pristine('older')
        self.bad('prepare', '0003-grows.patch does not apply')
        self.write('patches/8.0/0003-grows.patch',
                   self.made('patches/8.0/0003-grows.patch')
                   .replace(*self.HOOK))
        self.lay_out()
        self.good('import-series')
        self.assertEqual(set(self.own()), {'series', '0001-grows.patch'})
        self.assertIn(self.HOOK[1], self.own()['0001-grows.patch'])

        # Until it is the same
        self.pristine('old')
        self.write('patches/8.0/0001-grows.patch',
                   self.own()['0001-grows.patch'].replace(*self.HOOK[::-1]))
        self.lay_out()
        self.good('import-series')
        self.assertEqual(set(self.own()), {'series'})

    def test_import_of_another_message(self):
        self.laid_out()
        self.git('commit', '-q', '--amend', '-m',
                 f'accel: it grows\n\nMore.\n\n{SIGNED}')
        self.good('import-series')
        self.assertEqual(set(self.own()), {'series', '0002-it-grows.patch'})

    def test_import_of_another_step(self):
        self.laid_out()
        self.git('reset', '-q', '--hard', 'series~1')
        self.commit('hw/grows.c', 'one\nhalf\n', '--amend', '--no-edit')
        self.write(f'{self.series_tree}/docs/page.rst', 'page\n')
        self.git('add', 'docs')
        self.commit('hw/grows.c', 'one\nTWO\n', '-m',
                    f'accel: it grows\n\n{SIGNED}')
        self.good('import-series')
        self.assertEqual(set(self.own()),
                         {'series', 'steps/0002-it-grows.patch'})
        self.lay_out()
        self.assertEqual(self.git('show', 'series~1:hw/grows.c'),
                         'one\nhalf\n')

    def test_import_without_the_step(self):
        self.laid_out()
        self.git('reset', '-q', '--hard', 'series~1')
        self.commit('hw/grows.c', 'one\nTWO\n', '--amend', '--no-edit')
        self.write(f'{self.series_tree}/docs/page.rst', 'page\n')
        self.git('add', 'docs')
        self.git('commit', '-q', '-m', f'accel: it grows\n\n{SIGNED}')
        self.good('import-series')
        self.assertEqual(set(self.own()),
                         {'series', 'steps/0002-it-grows.patch'})
        self.assertEqual(self.own()['steps/0002-it-grows.patch'], '')
        self.lay_out()
        self.assertEqual(self.git('show', 'series~1:hw/grows.c'),
                         'one\nTWO\n')

    def test_import_from_elsewhere(self):
        """What has been ported, before there is anything"""
        self.laid_out()
        os.rename(f'{self.top}/{self.series_tree}', f'{self.top}/build/port')
        self.write('patches/8.0/series', '')
        self.good('import-series', f'{self.top}/build/port')
        self.assertEqual(set(self.own()), {'series'})

    def test_import_of_another_file(self):
        self.laid_out()
        before = self.patches('8.0')
        self.commit('hw/grows.c', 'one\nTwo\n', '--amend', '--no-edit')
        self.bad('import-series', 'hw/grows.c')
        self.assertEqual(self.patches('8.0'), before)

        self.good('import-series', '--added')
        self.assertEqual(set(self.own()), {'series', 'added.patch',
                                           'steps/0002-it-grows.patch'})
        self.assertEqual(self.made('hw/grows.c'), 'one\nTwo\n')
        self.lay_out()
        self.assertEqual(self.git('show', 'series:hw/grows.c'), 'one\nTwo\n')

        self.write('accel/grows.c', 'one\nthree\n')
        self.bad('source.py', 'added.patch no longer fits')

    def test_added_patch_that_is_needless(self):
        self.laid_out()
        self.write('patches/8.0/added.patch', '--- a/hw/grows.c\n'
                   '+++ b/hw/grows.c\n@@ -1,2 +1,2 @@\n one\n-TWO\n+Two\n')
        self.bad('import-series', 'hw/grows.c')
        self.good('import-series', '--added')
        self.assertEqual(set(self.own()), {'series'})


if __name__ == '__main__':
    unittest.main()
