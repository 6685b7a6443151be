import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { expect, it } from 'vitest';

import { parseConfig } from '../../src/config/parse-config.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const UNIT = readFileSync(resolve(import.meta.dirname, '../../config/examples/spandrel.service'), 'utf8');
/** Descriptors of a connection: its own, and those of the files and the upstream behind it. */
const DESCRIPTORS_PER_CONNECTION = 4;

/** A key of the unit's section `Service`. */
function service(key: string): string {
  const [, section = ''] = /^\[Service\]$([^]*?)^\[/m.exec(UNIT) ?? [];
  const [, value] = new RegExp(`^${key}=(.*)$`, 'm').exec(section) ?? [];
  if (value === undefined) throw new Error(`the unit has no ${key}`);
  return value;
}

/** Variables that the unit sets, with the folders that systemd would give it in `root`. */
function environment(root: string): Record<string, string> {
  const pairs = service('Environment').replaceAll('%S', root).split(' ');
  return Object.fromEntries(pairs.map((pair) => pair.split('=') as [string, string]));
}

it('the systemd unit starts the proxy, reloads it, and stops it with SIGTERM', async () => {
  const root = await temporaryFolder();
  const config = join(root, 'spandrel.yaml');
  const upstreams = 'upstreams: [{name: hub, url: http://127.0.0.1:9}]\n';
  await writeFile(config, `${upstreams}listen: {port: 0}\nadmin: {port: 0}\n`);
  expect(service('Type')).toBe('exec');
  const [program, command, ...args] = service('ExecStart').split(' ');
  expect([program, command]).toEqual(['/usr/bin/env', 'spandrel']);
  const here = args.map((arg) => (arg === '/etc/spandrel/spandrel.yaml' ? config : arg));
  await using child = new SpandrelProcess(here, environment(root));
  await child.listening();
  await writeFile(config, `${upstreams}listen: {port: 0}\nadmin: {port: 0}\nindex: {holdMs: 1}\n`);
  expect(service('ExecReload')).toBe('/bin/kill -HUP $MAINPID');
  child.kill('SIGHUP');
  await child.logged(({ msg }) => msg === 'configuration reloaded');
  child.kill('SIGTERM');
  expect(await child.exitStatus()).toBe(0);
});

it('the systemd unit has room for what the proxy needs by default', () => {
  const { limits, shutdown } = parseConfig({ yaml: '', environment: {} });
  expect(1000 * Number(service('TimeoutStopSec'))).toBeGreaterThan(shutdown.graceMs);
  expect(Number(service('LimitNOFILE'))).toBeGreaterThan(DESCRIPTORS_PER_CONNECTION * limits.maxConnections);
  const { SPANDREL_STORAGE_ROOT: root } = environment('/var/lib');
  expect(root).toBe(`/var/lib/${service('StateDirectory')}`);
});
