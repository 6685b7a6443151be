import { expect, it } from 'vitest';

import { printFirstScreen } from '../../../src/cli/terminal/print-first-screen.ts';
import { parseConfig } from '../../../src/config/parse-config.ts';

const { upstreams = [] } = parseConfig({
  yaml: 'upstreams: [{name: hub, host: docker.io, url: https://registry-1.docker.io}, {name: ecr, host: e.example}]',
  environment: {},
});
const SCREEN = {
  registryUrl: 'http://127.0.0.1:5000',
  adminUrl: 'http://127.0.0.1:5001',
  configFile: 'my.yaml',
  isFromFile: true,
  upstreams,
};

function commandsOf(screen: string): string[] {
  return Array.from(screen.matchAll(/^ {4}(\S.*)$/gm), ([, command = '']) => command);
}

it('shows the upstreams that are configured, how to check them, and how clients name images', () => {
  const screen = printFirstScreen(SCREEN);
  expect(screen).toMatch(
    /^spandrel: registry and span API at http:\/\/127\.0\.0\.1:5000, operations at \S+$/m,
  );
  expect(screen).toContain('Upstreams: hub (docker.io), ecr (e.example).');
  expect(commandsOf(screen)).toEqual([
    'npx spandrel doctor --config my.yaml --no-node',
    'curl http://127.0.0.1:5000/',
    'curl http://127.0.0.1:5001/readyz',
  ]);
  expect(screen).toContain('Clients pull 127.0.0.1:5000/UPSTREAM/REPOSITORY:TAG.');
});

it('names no file that other commands would read in vain', () => {
  const screen = printFirstScreen({ ...SCREEN, isFromFile: false });
  expect(commandsOf(screen)[0]).toBe('npx spandrel doctor --no-node');
});

it.each(['http://127.0.0.1:8080', 'https://127.0.0.1:5000', 'http://[::1]:5000'])(
  'tells commands the address of the proxy where it is not the usual one: %s',
  (registryUrl) => {
    const screen = printFirstScreen({ ...SCREEN, registryUrl, upstreams: [] });
    const commands = commandsOf(screen);
    expect(commands).toHaveLength(3);
    for (const command of commands) expect(command.endsWith(` --proxy ${registryUrl}`)).toBe(true);
    expect(screen).toContain('Name your own registry under "upstreams" in my.yaml.');
  },
);
