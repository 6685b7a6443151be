import { readFile } from 'node:fs/promises';

import { describe, expect, it } from 'vitest';

import { asksForHelp } from '../../src/cli/terminal/command-help.ts';
import { COMMAND_NAMES, printCommandHelp, printUsage } from '../../src/cli/run-command.ts';
import { printedCommand } from '../helpers/clients/printed-command.ts';
import { tryProgram } from '../helpers/programs.ts';

describe('--help of a command', () => {
  it.each(COMMAND_NAMES)(
    'of %s prints its usage, its flags and what they mean, and runs nothing',
    async (name) => {
      const help = await printCommandHelp(name);
      expect(await printedCommand(name, '--help')).toEqual({ status: 0, stdout: help, stderr: '' });
      expect(await printedCommand(name, 'anything', '--no-such-flag', '-h')).toEqual({
        status: 0,
        stdout: help,
        stderr: '',
      });
      expect(await printedCommand('help', name)).toEqual({ status: 0, stdout: help, stderr: '' });
      expect(help).toMatch(new RegExp(`^Usage: spandrel ${name} `));
      expect(help).toMatch(/^Exit status:\n {2}0 {2}\S.*\n {2}1 {2}\S.*\n {2}2 {2}\S/m);
      expect(help.split('\n').filter((line) => line.length > 80)).toEqual([]);
    },
  );

  it.each(COMMAND_NAMES)('of %s names each flag that its usage has', async (name) => {
    const help = await printCommandHelp(name);
    const [usage = '', flags = ''] = help.split('\nFlags:\n');
    const shown = flags.split('\n').map((line) => /--[a-z-]+/.exec(line)?.[0]);
    const named = [...(usage.split('\n\n')[0] ?? '').matchAll(/--[a-z-]+/g)].map(([flag]) => flag);
    expect(named.filter((flag) => !shown.includes(flag))).toEqual([]);
    expect(flags.split('\n').filter((line) => /^ {2}\S* *--\S+( [A-Z-]+)?\s*$/.test(line))).toEqual([]);
  });

  it('is printed for the program as a whole without a command', async () => {
    for (const args of [['--help'], ['-h'], ['help']])
      expect(await printedCommand(...args)).toEqual({ status: 0, stdout: printUsage(), stderr: '' });
  });

  it('is not a flag after two dashes', () => {
    expect(asksForHelp(['cat', 'demo/app', '--', '--help'])).toBe(false);
    expect(asksForHelp(['cat', '-h', '--'])).toBe(true);
  });
});

describe('a wrong command line', () => {
  it.each([
    [['srve'], 'unknown command: srve (did you mean serve?)'],
    [['help', 'convrt'], 'unknown command: convrt (did you mean convert?)'],
    [['--verison'], 'unknown command: --verison (did you mean --version?)'],
    [['ztoc', 'lst', 'a'], 'ztoc lst: expected create, info, list or cat (did you mean list?)'],
    [['serve', '--confg', 'a'], 'unknown flag --confg (did you mean --config?)'],
    [['ls', 'a', '-json'], 'unknown flag -json (did you mean --json?)'],
    [['ls', 'a', '--prox=b'], 'unknown flag --prox (did you mean --proxy?)'],
    [['convert', 'a', 'b', '--spansize', '1'], 'unknown flag --spansize (did you mean --span-size?)'],
    [['ls', '--colour'], 'unknown flag --colour'],
    [['no-such-command'], 'unknown command: no-such-command'],
  ])('%j is answered with the word that may be meant', async (args, message) => {
    const { status, stdout, stderr } = await printedCommand(...args);
    expect([status, stdout]).toEqual([2, '']);
    const [first, ...usage] = stderr.split('\n');
    expect(first).toBe(`spandrel: ${message}`);
    expect(usage.join('\n')).toContain('Usage: spandrel ');
  });
});

describe('--version', () => {
  it.each(['--version', '-V'])('%s prints the version of the package', async (flag) => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
    expect(await printedCommand(flag)).toEqual({ status: 0, stdout: `spandrel ${version}\n`, stderr: '' });
  });
});

describe('--help of the commands of a checkout', () => {
  it.each([
    ['test/fuzz/run.ts', 'npm run fuzz -- '],
    ['test/histories/run.ts', 'npm run histories -- '],
    ['load/run.ts', 'npm run load -- '],
  ])('of %s prints its usage and runs nothing', async (file, usage) => {
    const { status, stdout, stderr } = await tryProgram('node', [file, '--help']);
    expect({ status, stderr: stderr.toString() }).toEqual({ status: 0, stderr: '' });
    expect(stdout.toString()).toMatch(new RegExp(`^${usage}`));
  });
});
