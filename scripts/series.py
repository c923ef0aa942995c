#!/usr/bin/python3
"""What patches/BASE says; run as a program, print the names that quilt applies.

A line of `series` is the name of a patch. quilt takes no patch without a diff
of QEMU's own files, so one that is only about added files stands in a line
that is a comment to quilt:

    #added-only NAME

The header of a patch has lines

    Adds: path [path...]

which name the added files that come with it. Patterns are allowed there, and
`*` also matches `/`. The repository has added files as they are in the end.
One may come with less at first: what patch NAME changes in files that earlier
patches add is in steps/NAME. For a base that is derived from another one,
source.py makes all of this.

SPDX-License-Identifier: GPL-2.0-or-later
"""

import fnmatch
import os
import re
import shutil
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
STEPS_OF = 'steps'
ADDED_ONLY = '#added-only '


def die(message):
    sys.exit(f'{os.path.basename(sys.argv[0])}: {message}')


def settings(base=''):
    """What scripts/base prints, of another base than the present one if named"""
    env = {**os.environ, 'BASE': base} if base else None
    done = subprocess.run([os.path.join(TOP, 'scripts/base')], check=False,
                          text=True, stdout=subprocess.PIPE, env=env)
    if done.returncode:
        sys.exit(done.returncode)
    return dict(line.split('=', 1) for line in done.stdout.splitlines())


BASE = settings()
SOURCE = BASE['source']
PATCHES = BASE['patches']
STEPS = os.path.join(PATCHES, STEPS_OF)


def stem(name):
    """Of a patch's name what stays when the series is numbered anew"""
    return re.sub(r'^\d+-|\.patch$', '', name)


def listed(paths):
    paths = sorted(paths)
    more = f' and {len(paths) - 5} more' if len(paths) > 5 else ''
    return ', '.join(paths[:5]) + more


class Patch:
    """One patch: its message, the files that it adds, whether it has a diff."""

    def __init__(self, name, where=PATCHES):
        self.name = name
        self.path = os.path.join(where, name)
        steps = os.path.join(where, STEPS_OF, name)
        self.steps = steps if os.path.exists(steps) else None
        try:
            with open(self.path, encoding='utf-8') as file:
                text = file.read()
        except FileNotFoundError:
            die(f'the series names {name}, which does not exist.')
        parts = re.split(r'^(?=diff |Index: |--- )', text, maxsplit=1,
                         flags=re.MULTILINE)
        self.has_diff = len(parts) > 1
        # A diffstat below `---` is no part of the message.
        header = re.split(r'^---$', parts[0], maxsplit=1,
                          flags=re.MULTILINE)[0]

        self.adds = []
        self.subject = author = None
        body = []
        for line in header.splitlines():
            if line.startswith('Adds:'):
                self.adds += line.split()[1:]
            elif self.subject is None and line.startswith('Subject:'):
                self.subject = re.sub(r'^Subject:\s*(\[[^]]*\]\s*)?', '', line)
            elif self.subject is None and line.startswith('From:'):
                author = line.split(':', 1)[1].strip()
            else:
                body.append(line)
        signed = re.search(r'^Signed-off-by: (.*)$', header, re.MULTILINE)
        if not self.subject:
            die(f"{name} has no line 'Subject: ...'.")
        if not signed:
            die(f"{name} has no line 'Signed-off-by: ...'.")
        body = re.sub(r'\n{3,}', '\n\n', '\n'.join(body).strip())
        self.message = f'{self.subject}\n\n{body}\n'
        self.author = author or signed.group(1)


def read_series():
    """All patches in their order; dies if one is not as quilt needs it."""
    patches = []
    with open(os.path.join(PATCHES, 'series'), encoding='utf-8') as file:
        for line in file:
            added_only = line.startswith(ADDED_ONLY)
            words = line.removeprefix(ADDED_ONLY).split('#')[0].split()
            if not words:
                continue
            patch = Patch(words[0])
            if patch.has_diff == added_only:
                die(f'{patch.name} has a diff, so it stands in the series by '
                    'its mere name.' if added_only else
                    f'{patch.name} has no diff, which quilt cannot apply: put '
                    f"it into the series as '{ADDED_ONLY}{patch.name}'.")
            patches.append(patch)
    known = {patch.name for patch in patches}
    if os.path.isdir(STEPS):
        stray = set(os.listdir(STEPS)) - known
        if stray:
            die(f'there are steps of {listed(stray)}, and no such patch.')
    return patches


def overlay_files(base=None):
    """Added files as the base has them"""
    return subprocess.run([os.path.join(TOP, 'scripts/overlay-files')],
                          check=True, text=True, stdout=subprocess.PIPE,
                          env={**os.environ,
                               'BASE': (base or BASE)['base']}).stdout.split()


def copy(path, target):
    """Copy a file that may be for reading only to one that is not."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(path, target)
    os.chmod(target, 0o644 | os.stat(path).st_mode & 0o111)


def share_out(patches, complete=True):
    """Give each added file to the one patch that names it."""
    overlay = overlay_files()
    owner = {}
    shares = {}
    for patch in patches:
        shares[patch] = []
        for pattern in patch.adds:
            found = fnmatch.filter(overlay, pattern)
            if not found:
                die(f'{patch.name} adds {pattern}, which is no added file.')
            for path in found:
                if owner.setdefault(path, patch) is not patch:
                    die(f'{path} belongs to two patches, '
                        f'{owner[path].name} and {patch.name}.')
                if path not in shares[patch]:
                    shares[patch].append(path)
    orphans = [path for path in overlay if path not in owner]
    if orphans and complete:
        die(f'no patch adds {listed(orphans)}.')
    return shares


# What a reviewer of the code has to read: neither tests nor documentation
PRODUCT = re.compile(r'(?!tests/|docs/)(.*/)?([^/]*\.([ch]|json)|meson[^/]*)')


def product_lines(repo, commit):
    """How many product lines a commit adds and how many it removes"""
    numbers = subprocess.run(['git', '-C', repo, 'show', '--format=',
                              '--numstat', '--no-renames', commit],
                             check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    added = removed = 0
    for line in numbers.splitlines():
        more, less, path = line.split('\t')
        if PRODUCT.fullmatch(path):
            added += int(more)
            removed += int(less)
    return added, removed


def largest(changes):
    """Of pairs that begin with product_lines(), the one with the most lines"""
    return max(changes, key=lambda change: sum(change[0]))


if __name__ == '__main__':
    for one in read_series():
        if one.has_diff:
            print(one.name)
