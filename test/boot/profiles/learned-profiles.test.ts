import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { StoreHealth } from '../../../src/blobs/files/store-health.ts';
import { LearnedProfiles, type LearnedProfilesOptions } from '../../../src/boot/profiles/learned-profiles.ts';
import type { ObservedStart } from '../../../src/boot/profiles/repository-profile.ts';
import type { ByteCache } from '../../../src/cache/byte-cache.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { namedRepository } from '../../helpers/starts/start-traces.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let path: string;
beforeEach(async () => void (path = join(await temporaryFolder(), 'records', 'profiles')));

function open({
  file = path,
  ...more
}: Partial<LearnedProfilesOptions> & { readonly file?: string } = {}): LearnedProfiles {
  const logger = collectingLogger();
  const health = new StoreHealth({ events: new Events(logger) });
  return cleanup.use(LearnedProfiles.open(file, { health, logger, storeBytes: 0, ...more }));
}

function started(...files: readonly string[]): ObservedStart {
  const touched = files.map((file) => ({ path: parseRawText(file), bytes: 10, readShare: 0.5 }));
  return { layers: [digestOf('layer')], touched, present: new Map(), served: [] };
}

const OF_A = {
  starts: 2,
  files: [{ path: parseRawText('bin/a'), startShare: 1, readShare: 0.5, bytes: 10 }],
};

describe('learned profiles', () => {
  it('belong to one repository of one upstream, and outlive the process', async () => {
    {
      using profiles = open();
      expect(await profiles.read(namedRepository('a'))).toBeUndefined();
      await profiles.learn('up/a', started('bin/a'));
      await profiles.learn('up/a', started('bin/a'));
      await profiles.learn('up/b', started('bin/b'));
      expect(await profiles.read(namedRepository('a'))).toMatchObject(OF_A);
    }
    const profiles = open();
    expect(await profiles.read(namedRepository('a'))).toMatchObject(OF_A);
    expect(await profiles.read(namedRepository('b'))).toMatchObject({ starts: 1 });
    expect(await profiles.readNamed('other/a')).toBeUndefined();
    expect([profiles.list('', 10), profiles.list('up/a', 10), profiles.list('', 1)]).toEqual([
      ['up/a', 'up/b'],
      ['up/b'],
      ['up/a'],
    ]);
  });

  it('that are damaged are put aside, and new ones are kept', async () => {
    {
      using profiles = open();
      await profiles.learn('up/a', started('bin/a'));
    }
    await writeFile(path, 'no table');
    {
      using profiles = open();
      expect(await profiles.read(namedRepository('a'))).toBeUndefined();
      await profiles.learn('up/b', started('bin/b'));
    }
    expect(await open().read(namedRepository('b'))).toMatchObject({ starts: 1 });
    expect(await readdir(join(path, '..'))).toContain('profiles.damaged');
  });

  it('are bounded in bytes: those go that have not changed for longest', async () => {
    using profiles = open();
    const long = Array.from({ length: 250 }, (_, number) => `${'long'.repeat(1000)} ${number}`);
    for (let repository = 0; repository < 72; repository++)
      await profiles.learn(`up/${String(repository).padStart(3, '0')}`, started(...long));
    const kept = profiles.list('', 1000);
    expect(kept.length).toBeLessThan(72);
    expect(kept.length).toBeGreaterThan(40);
    expect(kept.at(-1)).toBe('up/071');
    expect(await profiles.readNamed('up/000')).toBeUndefined();
  });

  it('are replaced by imported ones', async () => {
    using profiles = open();
    await profiles.learn('up/a', started('bin/other'));
    await profiles.replace('up/a', OF_A);
    expect(await profiles.read(namedRepository('a'))).toMatchObject(OF_A);
    using again = open();
    expect(await again.read(namedRepository('a'))).toMatchObject(OF_A);
  });

  it('are those of all replicas: one that has seen less takes the profile of the others', async () => {
    const values = new Map<string, Uint8Array>();
    const shared: ByteCache = {
      isAuthentic: true,
      get: async (key) => {
        const bytes = values.get(key);
        return bytes && { bytes, tier: 'redis' };
      },
      set: async (key, bytes) => void values.set(key, bytes),
      setNew: async () => undefined,
      delete: async (key) => void values.delete(key),
    };
    let nowMs = 0;
    const replica = { shared, now: () => nowMs };
    const one = open(replica);
    const other = open({ ...replica, file: `${path}-other` });
    await one.learn('up/a', started('bin/a'));
    await other.learn('up/a', started('bin/a'));
    expect(await other.readNamed('up/a')).toMatchObject(OF_A);
    nowMs = 10_000;
    expect(await one.readNamed('up/a')).toMatchObject(OF_A);
    // It has become its own.
    values.clear();
    const again = open({ file: path });
    expect(await again.readNamed('up/a')).toMatchObject(OF_A);
    for (const damaged of ['no JSON', '{}', 'x'.repeat(9 * 2 ** 20)]) {
      for (const key of ['profile:1:up/a', 'profile:1:up/b']) values.set(key, Buffer.from(damaged));
      nowMs += 10_000;
      expect(await one.readNamed('up/a')).toMatchObject(OF_A);
      expect(await one.readNamed('up/b')).toBeUndefined();
    }
  });
});
