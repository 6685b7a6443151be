import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { startProgram, tryProgram } from '../helpers/programs.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';

const WRAPPER = new URL('../../src/cli/run-by-other-node.ts', import.meta.url).href;
const COMMAND = new URL('../../src/cli/bin.ts', import.meta.url).pathname;

const WAIT = { timeout: 20_000 };

let root: string;
let upstream: ScriptedRegistry;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'spandrel-other-node-'));
  upstream = await ScriptedRegistry.start();
});

afterEach(async () => {
  await upstream[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

/** Arguments for a Node that runs `script` with the same Node: in its place, or as a child if it cannot. */
function wrapped(hasExecve: boolean, script: string, args: readonly string[]): string[] {
  const lines = [
    ...(hasExecve ? [] : ["Reflect.set(process, 'execve', undefined);"]),
    `const { runByOtherNode } = await import(${JSON.stringify(WRAPPER)});`,
    `await runByOtherNode(process.execPath, ${JSON.stringify(script)}, ${JSON.stringify(args)});`,
  ];
  return ['--input-type=module', '--eval', lines.join('\n')];
}

function serveWrapped(hasExecve: boolean): SpandrelProcess {
  const environment = {
    SPANDREL_LISTEN_PORT: '0',
    SPANDREL_ADMIN_PORT: '0',
    SPANDREL_STORAGE_ROOT: join(root, 'store'),
    SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: upstream.url }]),
  };
  const args = wrapped(hasExecve, COMMAND, ['serve']);
  const stdio = ['ignore', 'pipe', 'pipe'] as const;
  return new SpandrelProcess(['serve'], {}, undefined, startProgram('node', args, { environment, stdio }));
}

function isOpen(url: string): Promise<boolean> {
  return fetch(url).then(
    () => true,
    () => false,
  );
}

describe.each([
  ['takes the place of the first', true],
  ['runs beside the first', false],
])('a newer Node that %s', (_, hasExecve) => {
  it('hands SIGHUP, SIGTERM and SIGINT to the server, which ends with its port and store free', async () => {
    await using first = serveWrapped(hasExecve);
    const { url } = await first.listening();
    first.kill('SIGHUP');
    await vi.waitFor(() => expect(first.stdout).toContain('configuration reloaded'), WAIT);
    expect(await isOpen(url)).toBe(true);
    first.kill('SIGTERM');
    expect(await first.exitStatus()).toBe(0);
    expect(first.stdout).toContain('"signal":"SIGTERM"');
    expect(await isOpen(url)).toBe(false);
    await using second = serveWrapped(hasExecve);
    await second.listening();
    second.kill('SIGINT');
    expect(await second.exitStatus()).toBe(0);
    expect(second.stdout).toContain('"signal":"SIGINT"');
  });

  it('hands arguments, standard input and output, and the exit status through', async () => {
    const script = join(root, 'echo.mjs');
    await writeFile(
      script,
      `for await (const chunk of process.stdin) process.stdout.write(chunk);
       process.stderr.write(process.argv.slice(2).join());
       process.exitCode = 7;`,
    );
    const { status, stdout, stderr } = await tryProgram('node', wrapped(hasExecve, script, ['a', '--b']), {
      input: Buffer.from('in'),
    });
    expect({ status, stdout: stdout.toString(), stderr: stderr.toString() }).toEqual({
      status: 7,
      stdout: 'in',
      stderr: 'a,--b',
    });
  });

  it('ends by the signal that ends the command', async () => {
    const script = join(root, 'end.mjs');
    await writeFile(script, `process.kill(process.pid, 'SIGKILL'); setInterval(() => undefined, 1000);`);
    const child = startProgram('node', wrapped(hasExecve, script, []), {
      stdio: ['ignore', 'ignore', 'ignore'],
    });
    const ended = Promise.withResolvers<NodeJS.Signals | null>();
    child.once('exit', (_status, signal) => ended.resolve(signal));
    expect(await ended.promise).toBe('SIGKILL');
  });

  it('has the exit status of the command as process 1 of a container, killed or not', async () => {
    const script = join(root, 'end.mjs');
    // A process 1 survives the signals that it sends itself; the first process is one then.
    const end = hasExecve
      ? 'process.exitCode = 9;'
      : "process.kill(process.pid, 'SIGKILL'); setInterval(() => undefined, 1000);";
    await writeFile(script, end);
    const isolated = ['--pid', '--fork', '--kill-child', process.execPath, ...wrapped(hasExecve, script, [])];
    expect((await tryProgram('unshare', isolated)).status).toBe(hasExecve ? 9 : 128 + 9);
  });

  it('ends the server when the process that was started is killed', async () => {
    await using first = serveWrapped(hasExecve);
    const { url } = await first.listening();
    first.kill('SIGKILL');
    await vi.waitFor(async () => expect(await isOpen(url)).toBe(false), WAIT);
  });
});

it('says what the other Node needs if its libraries are missing', async () => {
  const script = join(root, 'loader.mjs');
  await writeFile(script, 'process.exit(127);\n');
  const { status, stderr } = await tryProgram('node', wrapped(false, script, []));
  expect([status, stderr.toString()]).toEqual([127, expect.stringContaining('install libatomic')]);
});
