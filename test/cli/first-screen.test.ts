import { expect, it } from 'vitest';

import { printedCommand } from '../helpers/clients/printed-command.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { startOnTerminal } from '../helpers/clients/start-on-terminal.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const INTERRUPT = '\u0003';
/** It generates an image, and other tests run beside it. */
const PATIENT = { timeout: 100_000 };

async function environment(more: Record<string, string> = {}): Promise<Record<string, string>> {
  return {
    SPANDREL_LISTEN_PORT: '0',
    SPANDREL_ADMIN_PORT: '0',
    SPANDREL_STORAGE_ROOT: await temporaryFolder(),
    ...more,
  };
}

const HUB = {
  SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'hub', host: 'docker.io', url: 'http://127.0.0.1:9' }]),
};

it(
  'a terminal shows where the proxy is, commands that work as pasted, and how to stop',
  PATIENT,
  async () => {
    const { terminal, type } = startOnTerminal(['serve'], await environment());
    await using _ended = terminal;
    const { url, adminUrl } = await terminal.listening();
    await expect.poll(() => terminal.stdout, PATIENT).toContain('Stop with Ctrl+C.');
    expect(terminal.stdout).toContain(`registry and span API at ${url}, operations at ${adminUrl}\r\n`);
    expect(terminal.stdout).toContain('the demo image demo/app:latest');
    expect(terminal.stdout).not.toContain('{');
    const commands = [...terminal.stdout.matchAll(/^ {4}npx spandrel (.*)\r$/gm)].map(
      ([, line = '']) => line,
    );
    expect(commands.map((line) => line.split(' ')[0])).toEqual(['ls', 'cat', 'doctor']);
    // Doctor would complain about this machine if other tests make it slow: the README has the same command.
    for (const line of commands.slice(0, 2)) {
      const { stdout, ...ended } = await printedCommand(...line.split(' '));
      expect([line, ended]).toEqual([line, { status: 0, stderr: '' }]);
      expect(stdout).toMatch(/main\.py|What the demo image runs/);
    }
    const seen = /^[\d:]{8} GET \/v2\/demo\/app\/_soci\/images\/latest\/files\/app\/main.py 200 291 bytes/m;
    await expect.poll(() => terminal.stdout, PATIENT).toMatch(seen);
    type(INTERRUPT);
    expect(await terminal.exitStatus()).toBe(0);
    expect(terminal.stdout).toMatch(/^\S*\d\d:\d\d:\d\d stopping signal=SIGINT\r$/m);
  },
);

it('log.format json writes JSON lines on a terminal too', async () => {
  const { terminal } = startOnTerminal(['serve'], await environment({ ...HUB, SPANDREL_LOG_FORMAT: 'json' }));
  await using _ended = terminal;
  const { url, adminUrl } = await terminal.listening();
  const ready = await terminal.logged(({ msg }) => String(msg).includes('operations at'));
  expect(ready['msg']).toBe(`registry and span API at ${url}, operations at ${adminUrl}`);
});

it('output that is no terminal has JSON lines only, and none has the configuration', async () => {
  await using child = new SpandrelProcess(['serve'], await environment(HUB));
  const { url } = await child.listening();
  await (await fetch(`${url}/v2/`)).text();
  await child.logged(({ msg }) => msg === 'request');
  child.kill('SIGTERM');
  expect(await child.exitStatus()).toBe(0);
  expect(child.stderr).toBe('');
  for (const line of child.stdout.trimEnd().split('\n')) {
    expect(JSON.parse(line)).toMatchObject({ level: expect.any(String) as string });
    expect(line).not.toContain('maxBytes');
  }
});

it('the line that says it is ready is written even at log.level silent', async () => {
  await using child = new SpandrelProcess(
    ['serve'],
    await environment({ ...HUB, SPANDREL_LOG_LEVEL: 'silent' }),
  );
  const { url } = await child.listening();
  expect((await fetch(`${url}/v2/`)).status).toBe(200);
  child.kill('SIGTERM');
  expect(await child.exitStatus()).toBe(0);
  expect(child.log.map(({ msg }) => msg)).toEqual([
    expect.stringContaining(`span API at ${url}, operations`),
  ]);
});
