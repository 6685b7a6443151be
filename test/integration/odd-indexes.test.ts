import { arch } from 'node:os';

import { beforeAll, describe, expect, it } from 'vitest';

import { containerPlatform } from '../../src/core/platform.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ContainerdDaemon } from '../helpers/upstreams/containerd-daemon.ts';
import {
  describeBytes,
  forLinux,
  gzipLayer,
  pushImage,
  pushIndex,
  type WrittenDescriptor,
} from '../helpers/images/hand-made-image.ts';
import { KnownRepository, OCI_MANIFEST } from '../helpers/images/known-repository.ts';

/** Platforms that this machine pulls, and others. */
const OWN = containerPlatform(arch()).architecture;
const OTHER = 's390x';

let known: KnownRepository;
let containerd: ContainerdDaemon;
let own: WrittenDescriptor;
let other: WrittenDescriptor;

beforeAll(async () => {
  known = cleanup.use(
    await KnownRepository.start({
      environment: {
        SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
        SPANDREL_INDEX_PLATFORMS: JSON.stringify([`linux/${OWN}`]),
      },
    }),
  );
  containerd = cleanup.use(await ContainerdDaemon.start());
  own = await pushImage(known, { layers: [gzipLayer({ arch: OWN })], architecture: OWN });
  other = await pushImage(known, { layers: [gzipLayer({ arch: OTHER })], architecture: OTHER });
});

describe('containerd pulls through the proxy, lazily converted,', () => {
  const missing = { ...describeBytes(Buffer.from('not mirrored'), OCI_MANIFEST), ...forLinux(OTHER) };

  it.each<[string, () => WrittenDescriptor[]]>([
    [
      'an index of indexes that name their platform',
      () => [
        { ...pushIndex(known, [{ ...other, ...forLinux(OTHER) }]), ...forLinux(OTHER) },
        { ...pushIndex(known, [{ ...own, ...forLinux(OWN) }]), ...forLinux(OWN) },
      ],
    ],
    ['an index inside that names none', () => [pushIndex(known, [{ ...own, ...forLinux(OWN) }])]],
    ['an index in an index in an index', () => [pushIndex(known, [pushIndex(known, [own])])]],
    ['an index of which another platform is missing', () => [missing, { ...own, ...forLinux(OWN) }]],
  ])('%s', async (name, list) => {
    const tag = name.replaceAll(/[^a-z]/g, '-').slice(0, 40);
    const original = pushIndex(known, list(), tag);
    const image = `${new URL(known.app.url).host}/known/team/app:${tag}`;
    const pulled = await containerd.pull(image, '--plain-http', '--platform', `linux/${OWN}`);
    expect(pulled).toMatch(/^sha256:/);
    expect(pulled).not.toBe(original.digest);
    const content = await containerd.ctr('content', 'ls');
    expect(content).not.toContain(own.digest);
    const answered = await known.ask(`_soci/images/${tag}/files/arch?platform=linux/${OWN}`);
    expect(answered.body.toString()).toBe(OWN);
  });
});
