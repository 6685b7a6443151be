import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, expect, it } from 'vitest';

import { ConfigReload } from '../../../src/cli/config/config-reload.ts';
import { type ReadConfig, readConfig } from '../../../src/cli/config/read-config.ts';
import type { Config } from '../../../src/config/config-keys.ts';
import { SpandrelError } from '../../../src/core/errors.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  file = join(folder, 'spandrel.yaml');
  await writeFile(file, 'log: {level: info}\n');
});

/** A reload of an app that accepts every configuration. */
class Reloads implements Disposable {
  readonly #reload: ConfigReload;
  readonly events = new Events(collectingLogger());
  #next = Promise.withResolvers<Config>();

  constructor(current: ReadConfig, read: () => Promise<ReadConfig>) {
    const reload = (config: Config): Promise<[]> => {
      this.#next.resolve(config);
      this.#next = Promise.withResolvers();
      return Promise.resolve([]);
    };
    this.#reload = new ConfigReload(
      {
        app: { reload, events: this.events },
        read,
        complete: (config) => config,
        retryMs: 1,
      },
      current,
    );
  }

  /** The next configuration that is applied. */
  taken(): Promise<Config> {
    return this.#next.promise;
  }

  async isCurrent(): Promise<boolean> {
    return /^spandrel_config_current 1$/m.test((await this.events.printMetrics()).text);
  }

  [Symbol.dispose](): void {
    this.#reload[Symbol.dispose]();
  }
}

it('a change between the first read and the start of the watch is applied', async () => {
  const read = (): Promise<ReadConfig> => readConfig({ file, environment: {} });
  const current = await read();
  await writeFile(file, 'log: {level: warn}\n');
  using reloads = new Reloads(current, read);
  expect((await reloads.taken()).log.level).toBe('warn');
});

it.each([
  ['cannot be read counts as refused', 'EIO', false],
  ['cannot be read for want of descriptors stays the current one', 'EMFILE', true],
])('a configuration that %s, and is read again until that succeeds', async (_what, code, isCurrent) => {
  const current = await readConfig({ file, environment: {} });
  await writeFile(file, 'log: {level: warn}\n');
  const next = await readConfig({ file, environment: {} });
  const seen: boolean[] = [];
  using reloads: Reloads = new Reloads(current, async () => {
    seen.push(await reloads.isCurrent());
    const cause = Object.assign(new Error(code), { code });
    if (seen.length <= 3) throw new SpandrelError('CONFIG_INVALID', `cannot read ${file}`, { cause });
    return next;
  });
  expect((await reloads.taken()).log.level).toBe('warn');
  expect(seen).toEqual([true, isCurrent, isCurrent, isCurrent]);
  await expect.poll(() => reloads.isCurrent()).toBe(true);
});
