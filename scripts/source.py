#!/usr/bin/python3
"""Make build/source-BASE: what the repository has, as it is for a base.

The repository has added files and patches for one base, which others are
derived from. For such a base patches/BASE says what is different:

    paths          other places of files: `OLD NEW`, where a directory ends in
                   `/`, and the first that matches counts; paths that texts
                   mention move as well
    spelling.sed   other spelling, for all lines of added files and patches
    added.patch    what else differs in added files
    series         all patches in their order
    *.patch        those that differ from the ones of the base that this one is
                   derived from, and what it has besides; likewise steps/ (an
                   empty file: no step here) and cover-letter.txt

A patch that is not there is that of the other base with the same name, apart
from its number, in other places and spelling. The result has the layout of the
repository. A file that is the same there is a link to it, all others are for
reading only; one that has been edited is not overwritten.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from series import BASE, STEPS_OF, TOP, die, overlay_files, settings, stem

# What this script has written: a checksum for each file, by its path
MADE = '.made'


def read(path):
    with open(path, encoding='utf-8', errors='surrogateescape',
              newline='') as file:
        return file.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8', errors='surrogateescape',
              newline='') as file:
        file.write(text)


def files_below(root):
    for where, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(os.path.join(where, name), root)


def mention(path):
    """What finds a path of a file, or one that begins with a directory's"""
    end = r'(?![\w/-]|\.\w)'
    if not path.endswith('/'):
        return re.escape(path) + end
    # One word alone may be any word.
    if '/' not in path[:-1]:
        return re.escape(path)
    return re.escape(path[:-1]) + f'(?:/|{end})'


class Translation:
    """From the files and patches of a base, whose source has been made, to
    those of one derived from it"""

    def __init__(self, base):
        self.own = base['own_patches']
        self.origin = settings(base['from'])
        self.moves = []
        path = os.path.join(self.own, 'paths')
        if os.path.exists(path):
            for line in read(path).splitlines():
                words = line.split('#')[0].split()
                if len(words) not in (0, 2):
                    die(f"{path}: '{line}' is not of the form 'OLD NEW'.")
                self.moves += [words] if words else []
        # Added files of the other base: their paths, by the paths here
        without = base.get('without', '').split()
        self.files = {self.path(path): path
                      for path in overlay_files(self.origin)
                      if not any(fnmatch.fnmatch(path, pattern)
                                 for pattern in without)}

    def path(self, path):
        for old, new in self.moves:
            if path == old or old.endswith('/') and path.startswith(old):
                return new + path[len(old):]
            if f'{path}/' == old:
                return new.rstrip('/')
        return path

    def text(self, text):
        """With paths as they are here, also in the lines of a diff"""
        if not self.moves:
            return text
        olds = '|'.join(mention(old) for old, _ in self.moves)
        return re.sub(r'(?<![\w/.])(?<!.-)((?:[-+]{3} [ab]/)?)(' + olds + ')',
                      lambda found: found[1] + self.path(found[2]), text)

    def spell(self, root):
        """Respell all files below a directory."""
        script = os.path.join(self.own, 'spelling.sed')
        paths = [os.path.join(root, path) for path in files_below(root)]
        if not os.path.exists(script) or not paths:
            return
        before = [read(path).count('\n') for path in paths]
        subprocess.run(['sed', '-i', '-f', script, '--', *paths], check=True)
        for path, count in zip(paths, before):
            if read(path).count('\n') != count:
                die(f'{script} may not add or remove lines, as it does in '
                    f'{os.path.relpath(path, root)}; added.patch may.')

    def lay_out_files(self, root):
        """Put added files below a directory, apart from added.patch."""
        for path, original in self.files.items():
            source = os.path.join(self.origin['source'], original)
            target = os.path.join(root, path)
            write(target, self.text(read(source)))
            os.chmod(target, 0o644 | os.stat(source).st_mode & 0o111)
        self.spell(root)

    def change_files(self, root):
        """And that"""
        patch = os.path.join(self.own, 'added.patch')
        if not os.path.exists(patch):
            return
        done = subprocess.run(['patch', '-p1', '-s', '-f', '--fuzz=0', '-r-',
                               '--no-backup-if-mismatch', '-i', patch],
                              cwd=root, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            die(f'{patch} no longer fits:\n{done.stdout.rstrip()}')

    def lay_out_patches(self, root):
        """Put all patches of the other base below a directory, with their
        names and steps; Adds: lines name what there is here."""
        patches = self.origin['patches']
        for path in files_below(patches):
            if path.endswith(('.patch', 'cover-letter.txt')):
                write(os.path.join(root, path),
                      self.text(read(os.path.join(patches, path))))
        self.spell(root)
        files = list(self.files)

        def present(line):
            words = [word for word in line[0].split()[1:]
                     if fnmatch.filter(files, word)]
            return ' '.join(['Adds:', *words]) + '\n' if words else ''
        for name in os.listdir(root):
            path = os.path.join(root, name)
            if os.path.isfile(path):
                write(path, re.sub(r'^Adds:.*\n', present, read(path),
                                   flags=re.MULTILINE))


def choose_patches(translation, translated, root):
    """Of patches translated below a directory and the base's own, put below
    another what the series has.

    Returns: for each of these files the one that it is a copy of, if any
    """
    own = translation.own
    known = {stem(name): name for name in os.listdir(translated)
             if name.endswith('.patch')}
    same = {}

    def choose(name, theirs):
        """Put a file there, and tell whether there is one"""
        for source in os.path.join(own, name), theirs:
            if source and os.path.exists(source):
                # An empty file stands for none.
                if os.path.getsize(source) or name == 'series':
                    write(os.path.join(root, name), read(source))
                    same[name] = source if source != theirs else None
                return True
        return False

    if not choose('series', None):
        die(f'{own}/series is missing.')
    choose('cover-letter.txt', os.path.join(translated, 'cover-letter.txt'))
    for name in re.findall(r'^(?:#added-only )?([^#\s]\S*)',
                           read(os.path.join(own, 'series')), re.MULTILINE):
        theirs = known.get(stem(name), '')
        if not choose(name, theirs and os.path.join(translated, theirs)):
            die(f"{own}/series names {name}, which is neither there nor in "
                f"{translation.origin['patches']}.")
        choose(f'{STEPS_OF}/{name}',
               theirs and os.path.join(translated, STEPS_OF, theirs))
    return same


def checksum(path):
    with open(path, 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


def check_unedited(mirror, new, homes):
    """Die if the mirror has somebody's work in it."""
    try:
        made = json.loads(read(os.path.join(mirror, MADE)))
    except FileNotFoundError:
        made = {}
    for path in files_below(mirror):
        there, wanted = os.path.join(mirror, path), os.path.join(new, path)
        if path == MADE or os.path.islink(there):
            continue
        content = checksum(there)
        if content == made.get(path) or \
           os.path.exists(wanted) and content == checksum(wanted):
            continue
        die(f'{there} has been edited, but is made anew each time: bring the '
            f'change to {homes.get(path, "the repository")}, remove it, then '
            'try again.')


def settle(mirror, new, same):
    """Have in the mirror what is new, but keep files that are right."""
    made = {}
    for path in sorted(files_below(new)):
        source, target = os.path.join(new, path), os.path.join(mirror, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if same.get(path):
            link = os.path.relpath(os.path.realpath(same[path]),
                                   os.path.realpath(os.path.dirname(target)))
            if not os.path.islink(target) or os.readlink(target) != link:
                if os.path.lexists(target):
                    os.remove(target)
                os.symlink(link, target)
            continue
        made[path] = checksum(source)
        mode = 0o444 | os.stat(source).st_mode & 0o111
        if os.path.islink(target) or not os.path.exists(target) or \
           checksum(target) != made[path]:
            os.chmod(source, mode)
            os.replace(source, target)
        else:
            os.chmod(target, mode)
    wanted = {*made, *same, MADE}
    for path in list(files_below(mirror)):
        if path not in wanted:
            os.remove(os.path.join(mirror, path))
    for where, _, _ in os.walk(mirror, topdown=False):
        if not os.listdir(where):
            os.rmdir(where)
    write(os.path.join(mirror, MADE), json.dumps(made, indent=1))


def make(base):
    """Bring the source of a base up to date."""
    if not base['from']:
        return
    make(settings(base['from']))
    translation = Translation(base)
    mirror = base['source']
    os.makedirs(mirror, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base['build']) as where:
        new, translated = f'{where}/new', f'{where}/translated'
        os.mkdir(new)
        os.mkdir(translated)
        translation.lay_out_files(new)
        translation.change_files(new)
        homes, same = {}, {}
        for path, original in translation.files.items():
            original = os.path.join(translation.origin['source'], original)
            homes[path] = original
            if checksum(original) == checksum(os.path.join(new, path)):
                same[path] = original
        translation.lay_out_patches(translated)
        patches = os.path.relpath(base['patches'], mirror)
        chosen = choose_patches(translation, translated,
                                os.path.join(new, patches))
        for name, source in chosen.items():
            homes[f'{patches}/{name}'] = os.path.join(translation.own, name)
            if source:
                same[f'{patches}/{name}'] = source
        check_unedited(mirror, new, homes)
        settle(mirror, new, same)
    # Tests find what is built from where they are.
    link = os.path.join(mirror, 'build')
    if not os.path.islink(link):
        os.symlink('..', link)


if __name__ == '__main__':
    make(BASE)
