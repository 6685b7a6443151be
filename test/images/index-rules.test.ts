import { describe, expect, it } from 'vitest';

import { resolveTag, startLazyApp } from '../helpers/lazy-app.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';

describe('a tag', () => {
  it.each([
    [{ v2: false }, false],
    [{ preserveDigests: true }, false],
    [{ repository: 'ap*', v2: false }, false],
    [{ repository: 'team/**', v2: false }, true],
    [{ upstream: 'other', v2: false }, true],
    [{ minLayerBytes: '1GiB' }, false],
    [{ platforms: ['linux/s390x'] }, false],
    [{ platforms: ['linux/arm64'] }, true],
    [{ lazyClients: ['nerdctl/'] }, false],
  ])('a tag follows the rule %j', async (rule, isConverted) => {
    await using upstream = await LayoutUpstream.start('platforms-all');
    await using app = await startLazyApp(upstream, {
      environment: { SPANDREL_INDEX_RULES: JSON.stringify([rule]) },
    });
    expect((await resolveTag(app)).digest === upstream.digest).toBe(!isConverted);
  });

  it('a tag follows the platforms of a reloaded configuration', async () => {
    await using upstream = await LayoutUpstream.start('platforms-all');
    const digests: string[] = [];
    await using app = await startLazyApp(upstream, {
      environment: { SPANDREL_INDEX_PLATFORMS: '["linux/s390x"]' },
    });
    for (const platform of ['linux/amd64', 'linux/s390x']) {
      digests.push((await resolveTag(app)).digest);
      await app.reload({ SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_INDEX_PLATFORMS: `["${platform}"]` });
    }
    digests.push((await resolveTag(app)).digest);
    expect(digests.map((digest) => digest === upstream.digest)).toEqual([true, false, true]);
  });
});
