import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

import { describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { startProgram } from '../helpers/programs.ts';

const MODULE = new URL('../../src/cli/end-with-npm.ts', import.meta.url).href;
/** Runs `$SCRIPT`; the shell has no other command. */
const COMMAND = `'${process.execPath}' --input-type=module --eval "$SCRIPT"`;

/** Runs `$COMMAND` in a shell as npm does, and tells the process ids of the shell and of the command. */
const NPM = `
  process.title = process.env.TITLE;
  const { spawn } = await import('node:child_process');
  const shell = spawn('sh', ['-c', process.env.COMMAND], { stdio: ['ignore', 'pipe', 'inherit'] });
  shell.stdout.on('data', (pid) => console.log(shell.pid + ' ' + pid));
  setInterval(() => undefined, 1000);`;
/** Says on standard error by which signal it ends. */
const SERVER = `
  const { endWithNpm } = await import('${MODULE}');
  endWithNpm();
  process.on('SIGTERM', () => { process.stderr.write('SIGTERM'); process.exit(); });
  setInterval(() => undefined, 1000);
  console.log(process.pid);`;

interface Started {
  readonly npm: ChildProcess;
  /** Process id of the shell. */
  readonly shell: number;
  /** The first line that the command prints. */
  readonly line: string;
  /** What the command has written to standard error so far. */
  readonly said: () => string;
}

async function start(command: string, script: string, title = 'npm exec spandrel'): Promise<Started> {
  const npm = startProgram('node', ['--input-type=module', '--eval', NPM], {
    environment: { npm_lifecycle_event: 'npx', COMMAND: command, SCRIPT: script, TITLE: title },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  cleanup.defer(() => void npm.kill('SIGKILL'));
  let said = '';
  npm.stderr.on('data', (chunk) => (said += String(chunk)));
  const [printed] = (await once(npm.stdout, 'data')) as [Buffer];
  const [shell = '', line = ''] = printed.toString().trim().split(' ');
  return { npm, shell: Number(shell), line, said: () => said };
}

describe('a command that npm runs in a shell', () => {
  it.each(['the shell', 'npm'])('ends by SIGTERM when %s has ended', async (which) => {
    const { npm, shell, line, said } = await start(COMMAND, SERVER);
    cleanup.defer(() => {
      // A failed test must not leave it behind.
      if (said() === '') process.kill(Number(line), 'SIGKILL');
    });
    if (which === 'npm') npm.kill('SIGKILL');
    else process.kill(shell, 'SIGKILL');
    await expect.poll(said, { timeout: 20_000 }).toBe('SIGTERM');
  });

  it.each([
    ['the only command of its shell', COMMAND, 'npm exec spandrel', true],
    ['in the place of its shell', `exec ${COMMAND}`, 'npm start', true],
    ['a command that its shell leaves behind', `${COMMAND} & wait`, 'npm start', false],
    ['one of several', `true; ${COMMAND}; true`, 'npm start', false],
    ['run by another program', COMMAND, 'make', false],
  ])('knows npm if it is %s', async (_what, command, title, isTied) => {
    const script = `console.log((await import('${MODULE}')).findNpm(process.ppid))`;
    const { npm, line } = await start(command, script, title);
    expect(line).toBe(isTied ? String(npm.pid) : 'undefined');
  });
});
