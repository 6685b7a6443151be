import { describe, expect, it } from 'vitest';

import { parseProfile, printProfile } from '../../../src/boot/profiles/print-profile.ts';
import { MAX_PROFILE_FILES, RepositoryProfile } from '../../../src/boot/profiles/repository-profile.ts';
import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { parseRawText, type RawText } from '../../../src/tar/raw-text.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';

const LAYER = digestOf('layer');

interface StartOptions {
  readonly layers?: readonly Digest[];
  /** Files that the layers have; those that are read when not given. */
  readonly present?: readonly string[];
  readonly served?: readonly string[];
}

/** A start that reads whole files of 1000 bytes. */
function start(
  profile: RepositoryProfile,
  read: readonly string[],
  { layers = [LAYER], present, served = [] }: StartOptions = {},
): void {
  const known = new Set<RawText>(profile.paths);
  const files = [...(present ?? known), ...read].map((path) => parseRawText(path));
  profile.learn({
    layers,
    touched: read.map((path) => ({ path: parseRawText(path), bytes: 1000, readShare: 1 })),
    present: new Map(files.map((path) => [path, 1000])),
    served: served.map(parseRawText),
  });
}

function shares(profile: RepositoryProfile): Record<string, number> {
  const entries = profile
    .describe()
    .files.map(({ path, startShare }) => [path, Number(startShare.toFixed(2))]);
  return Object.fromEntries(entries) as Record<string, number>;
}

describe('a profile', () => {
  it('has the share of starts that read each file, in the order of first touch', () => {
    const profile = new RepositoryProfile();
    start(profile, ['a', 'b', 'c']);
    start(profile, ['a', 'b']);
    const { starts, files } = profile.describe();
    expect(starts).toBe(2);
    expect(files.map(({ path }) => path)).toEqual(['a', 'b', 'c']);
    expect(shares(profile)).toEqual({ a: 1, b: 1, c: 0.49 });
  });

  it('gives one odd start little weight, whenever it comes', () => {
    for (const odd of [0, 1, 5, 9]) {
      const profile = new RepositoryProfile();
      for (let count = 0; count < 10; count++)
        start(profile, count === odd ? ['odd', ...Array.from({ length: 500 }, (_, n) => `odd ${n}`)] : ['a']);
      expect(shares(profile)['odd']).toBeLessThan(0.15);
      if (odd > 0) expect(shares(profile)['a']).toBeGreaterThan(0.85);
    }
  });

  it('forgets by halves: what starts read lately counts more', () => {
    const profile = new RepositoryProfile();
    for (let count = 0; count < 32; count++) start(profile, ['old']);
    for (let count = 0; count < 16; count++) start(profile, ['new']);
    const { old = 0, new: young = 0 } = shares(profile);
    expect(old).toBeGreaterThan(0.35);
    expect(old).toBeLessThan(0.5);
    expect(young).toBeGreaterThan(0.5);
    for (let count = 0; count < 128; count++) start(profile, ['new']);
    expect(shares(profile)).toEqual({ new: 1 });
  });

  it('goes by path: a file of the next version has the share of the last one', () => {
    const profile = new RepositoryProfile();
    start(profile, ['app', 'lib']);
    start(profile, ['app', 'lib']);
    start(profile, ['app', 'lib', 'added'], { layers: [digestOf('next')] });
    const found = shares(profile);
    expect(found['app']).toBe(1);
    // One start may be odd; the second one tells.
    expect(found['added']).toBeLessThanOrEqual(0.5);
    start(profile, ['app', 'lib', 'added'], { layers: [digestOf('next')] });
    expect(shares(profile)['added']).toBeGreaterThan(0.5);
  });

  it('does not count a start against files that it could not read', () => {
    const profile = new RepositoryProfile();
    start(profile, ['base', 'app']);
    start(profile, ['base', 'app']);
    // A node that has the lower layer reads it from its disk.
    for (let count = 0; count < 20; count++)
      start(profile, ['app'], { layers: [digestOf('upper')], present: ['app'] });
    expect(shares(profile)).toEqual({ base: 1, app: 1 });
  });

  it('keeps the shares and the order of the files of boot layers, whatever starts read beside them', () => {
    const profile = new RepositoryProfile();
    for (let count = 0; count < 3; count++) start(profile, ['a', 'b', 'c']);
    const before = profile.describe().files;
    for (let count = 0; count < 400; count++) start(profile, ['a', 'c'], { served: ['a', 'b'] });
    expect(profile.describe().files.map(({ path }) => path)).toEqual(before.map(({ path }) => path));
    expect(shares(profile)).toEqual({ a: 1, b: 1, c: 1 });
    const stored = parseProfile(printProfile(profile));
    expect(stored && shares(stored)).toEqual({ a: 1, b: 1, c: 1 });
    // Of files that nobody knows, there is nothing to count.
    start(profile, ['c'], { served: ['unknown'] });
    expect(shares(profile)).not.toHaveProperty('unknown');
    const anew = new RepositoryProfile();
    start(anew, [], { present: ['a'], served: ['a', 'unknown'] });
    expect(anew.describe().files).toMatchObject([{ path: 'a', startShare: 1, readShare: 1, bytes: 1000 }]);
  });

  it('lets a few starts without their boot layer decide about files that nothing showed for long', () => {
    const profile = new RepositoryProfile();
    for (let count = 0; count < 10; count++) start(profile, ['needed', 'gone', 'rare'], { present: [] });
    const evidence = (): number[] => profile.describe().files.map((file) => file.evidence ?? 0);
    const fresh = evidence();
    for (let count = 0; count < 200; count++) start(profile, [], { served: ['needed', 'gone', 'rare'] });
    for (const [place, weight] of evidence().entries()) expect(weight).toBeLessThan((fresh[place] ?? 0) / 50);
    expect(shares(profile)).toEqual({ needed: 1, gone: 1, rare: 1 });
    // The next image leaves two of them out.
    for (let count = 0; count < 2; count++) start(profile, ['needed'], { served: ['rare'] });
    const { gone = 1, ...others } = shares(profile);
    expect(gone).toBeLessThan(0.1);
    expect(others).toEqual({ needed: 1, rare: 1 });
  });

  it('has the files of real starts again soon after a thousand clients pretended to read others', () => {
    const profile = new RepositoryProfile();
    const real = ['a', 'b', 'c'];
    for (let count = 0; count < 10; count++) start(profile, real);
    const layer = { present: [...real, ...Array.from({ length: 50 }, (_, place) => `junk ${place}`)] };
    for (let count = 0; count < 1000; count++)
      start(
        profile,
        Array.from({ length: 50 }, (_, place) => `junk ${(count + place) % 100}`),
        layer,
      );
    for (let count = 0; count < 3; count++) start(profile, real, layer);
    const { a = 0, b = 0, c = 0 } = shares(profile);
    expect(Math.min(a, b, c)).toBeGreaterThan(0.1);
    for (let count = 0; count < 60; count++) start(profile, real);
    for (const [path, share] of Object.entries(shares(profile)))
      if (real.includes(path)) expect(share, path).toBeGreaterThan(0.9);
      else expect(share, path).toBeLessThan(0.1);
  });

  it('is bounded: the files of most starts stay', () => {
    const profile = new RepositoryProfile();
    start(profile, ['a', 'b']);
    const many = Array.from({ length: 2 * MAX_PROFILE_FILES }, (_, number) => `file ${number}`);
    start(profile, ['a', 'b', ...many]);
    const { files } = profile.describe();
    expect(files).toHaveLength(MAX_PROFILE_FILES);
    expect(files.slice(0, 3).map(({ path }) => path)).toEqual(['a', 'b', 'file 0']);
    start(profile, ['a', ...many.slice(0, 500).map((name) => name.repeat(400))]);
    const bytes = profile.describe().files.reduce((sum, { path }) => sum + path.length, 0);
    expect(bytes).toBeLessThanOrEqual(2 ** 20);
    expect(printProfile(profile).length).toBeLessThan(3 * 2 ** 20);
  });

  it.each([1, 2, 3, 4, 5])('is the same after it was stored (seed %i)', (seed) => {
    const random = seededRandom(seed);
    const profile = new RepositoryProfile();
    for (let count = 0; count < 30; count++) {
      const read = Array.from({ length: 40 }, (_, number) => `f\u0081 ${number}`).filter(
        () => random() < 0.3,
      );
      start(profile, read, { layers: [digestOf(`layer ${Math.floor(random() * 3)}`)] });
    }
    const restored = parseProfile(printProfile(profile));
    const [was, is] = [profile.describe(), restored?.describe()];
    expect(is?.starts).toBe(was.starts);
    expect(is?.files.map(({ path }) => path)).toEqual(was.files.map(({ path }) => path));
    for (const [place, file] of was.files.entries()) {
      expect(is?.files[place]?.startShare).toBeCloseTo(file.startShare, 2);
      expect(is?.files[place]?.readShare).toBeCloseTo(file.readShare, 2);
    }
  });

  it.each([
    '',
    '{}',
    '[]',
    '{"version":2,"starts":1,"layers":[],"files":[]}',
    '{"version":1,"starts":-1,"layers":[],"files":[]}',
    '{"version":1,"starts":1,"layers":[["sha256:x",1]],"files":[]}',
    '{"version":1,"starts":1,"layers":[],"files":[["a",1,1,1,1,1]]}',
    '{"version":1,"starts":1,"layers":[],"files":[["a",1,0,0,1,1,1]]}',
    '{"version":1,"starts":1,"layers":[],"files":[["a",1,"1",1,1,1,1]]}',
  ])('that is damaged is none: %s', (text) => expect(parseProfile(text)).toBeUndefined());

  it('that was exported has the same shares where it is imported', () => {
    const profile = new RepositoryProfile();
    for (let count = 0; count < 20; count++) start(profile, count % 2 === 0 ? ['a', 'b'] : ['a', 'c']);
    const imported = RepositoryProfile.from(profile.describe());
    expect(imported.describe()).toEqual(
      expect.objectContaining({ starts: 20, files: expect.any(Array) as unknown }),
    );
    expect(shares(imported)).toEqual(shares(profile));
    start(imported, ['a', 'b']);
    expect(shares(imported)['a']).toBe(1);
  });
});
