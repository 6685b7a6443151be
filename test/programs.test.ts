import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';

import { PROGRAMS } from '../scripts/programs.mjs';
import { type Program, runProgram, runProgramSync, startProgram } from './helpers/programs.ts';

const ROOT = resolve(import.meta.dirname, '..');
/** The one that starts programs, the samples below, and what plays npm, which starts a shell. */
const EXCEPTIONS = ['test/helpers/programs.ts', 'test/programs.test.ts', 'test/cli/end-with-npm.test.ts'];

/** Modules that start programs: Node's, and the usual packages. */
const MODULES = [
  '(?:node:)?child_process',
  'node:cluster',
  'execa',
  'cross-spawn',
  'nano-spawn',
  'tinyexec',
  'foreground-child',
  'shelljs',
  'zx',
  'node-pty',
];
const OTHER_WAYS = [
  new RegExp(`['"\`](?:${MODULES.join('|')})(?:/[^'"\`]*)?['"\`]`),
  /(?:from|import|require|getBuiltinModule)\s*\(?\s*['"`]cluster['"`]/,
  // Inside Node.
  /process\s*\.\s*binding\b|spawn_sync|process_wrap|\bprocess\s*\.\s*execve\b/,
  // In Python and Lua.
  /\bimport\s[^\n]*\b(?:subprocess|pty)\b/,
  /\bos\s*\.\s*(?:system|popen|execute|exec[lv]\w*|spawn[lv]\w*|posix_spawn\w*)\b/,
  /\bio\s*\.\s*popen\b/,
];

function otherWays(text: string): string[] {
  const code = text.replaceAll(/^import type [^;]*;/gm, '');
  return OTHER_WAYS.flatMap((way) => way.exec(code)?.[0] ?? []);
}

function sourceFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(?:[cm]?[jt]sx?|lua|py|sh)$/.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

describe('the programs that tests and measurements start', () => {
  it('are started in one way', () => {
    const files = [...sourceFiles('test'), ...sourceFiles('load')].filter(
      (file) => !EXCEPTIONS.includes(file),
    );
    expect(files.length).toBeGreaterThan(100);
    const found = files.flatMap((file) =>
      otherWays(readFileSync(join(ROOT, file), 'utf8')).map((way) => `${file}: ${way}`),
    );
    expect(found).toEqual([]);
  });

  it.each([
    "import { spawn } from 'node:child_process';",
    'import * as processes from "child_process";',
    'const { exec } = await import(`node:child_process`);',
    "require('child_process').execSync('ls');",
    "process.getBuiltinModule('node:child_process').fork('x.js');",
    "import cluster from 'node:cluster';",
    "const { fork } = require('cluster');",
    "import { execa } from 'execa';",
    "import { $ } from 'zx/core';",
    "process.binding('spawn_sync').spawn({});",
    'import json, subprocess',
    'from os import path; os.system("ls")',
    'local pipe = io.popen("ls")',
  ])('would be noticed if they were started by %j', (text) => {
    expect(otherWays(text)).not.toEqual([]);
  });

  it.each([
    "import { startProgram } from '../helpers/programs.ts';",
    'const [, port] = /:(\\d+)/.exec(line) ?? [];',
    "import type { ChildProcess } from 'node:child_process';",
  ])('may be where the text is %j', (text) => {
    expect(otherWays(text)).toEqual([]);
  });

  it('are those that set-up installs, and no others', async () => {
    const unlisted = 'dpkg' as Program;
    const words = /set-up does not install dpkg: add it to scripts\/programs\.mjs/;
    expect(() => startProgram(unlisted, [], { stdio: ['ignore', 'ignore', 'ignore'] })).toThrow(words);
    expect(() => runProgramSync(unlisted, ['--version'])).toThrow(words);
    await expect(runProgram('/usr/bin/dpkg' as Program, [])).rejects.toThrow(/set-up does not install/);
  });

  it('find no others either, whatever starts them', async () => {
    for (const shell of ['sh', 'bash'] as const)
      await expect(runProgram(shell, ['-c', 'dpkg --version'])).rejects.toThrow(/dpkg.*not found/);
    await expect(runProgram('env', ['dpkg', '--version'])).rejects.toThrow(/No such file/);
    const nested = "console.log(require('child_process').spawnSync('dpkg').error.code)";
    expect((await runProgram('node', ['-e', nested])).toString().trim()).toBe('ENOENT');
    expect((await runProgram('sh', ['-c', 'echo x | gzip | gzip -d'])).toString()).toBe('x\n');
  });

  it('are all there', async () => {
    const missing = Object.keys(PROGRAMS).map((name) => `command -v ${name} >/dev/null || echo ${name}`);
    expect((await runProgram('sh', ['-c', missing.join('\n')])).toString()).toBe('');
  });

  it('give what they print, or an error with the reason', async () => {
    const input = Buffer.from('some text');
    expect((await runProgram('cat', [], { input })).equals(input)).toBe(true);
    expect(runProgramSync('cat', [], { input }).equals(input)).toBe(true);
    const failing = ['-c', 'echo why >&2; exit 3'];
    await expect(runProgram('sh', failing)).rejects.toThrow(/exit status 3\nwhy/);
    expect(() => runProgramSync('sh', failing)).toThrow(/exit status 3\nwhy/);
  });
});
