import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { KnownRepository } from '../helpers/images/known-repository.ts';
import { sendRaw } from '../helpers/clients/raw-request.ts';

/**
 * Texts that break readers of queries: damaged escapes, bytes that are no UTF-8, line ends, letters that fold
 * to others.
 */
const ODD_VALUES = [
  '%ZZ',
  '%',
  '%e2%28',
  '%ff',
  '%00',
  '%0d%0aX:%20y',
  '%E2%84%AA',
  '%C4%B0',
  '+',
  '&',
  '=',
  '%ED%A0%80',
  '99999999999999999999',
  '-1',
  '1e3',
  '../../x',
  '/tags/list',
];
const PARAMETERS = [
  'ns',
  'n',
  'last',
  'limit',
  'after',
  'prefix',
  'platform',
  'artifactType',
  'a',
  '/tags/list',
];

let known: KnownRepository;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
});

async function statusOf(target: string): Promise<number> {
  const response = await sendRaw(
    known.app.url,
    `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
  );
  return Number(/^HTTP\/1.1 (\d+)/.exec(response)?.[1]);
}

describe('a query that no client writes', () => {
  it.each(PARAMETERS)('is no defect, whatever %s has', async (name) => {
    const { manifestDigest, blobDigest } = known;
    const routes = [
      '/v2/',
      '/v2/_catalog',
      '/v2/team/app/tags/list',
      '/v2/team/app/manifests/1.0',
      `/v2/team/app/blobs/${blobDigest}`,
      `/v2/team/app/referrers/${manifestDigest}`,
      '/v2/team/app/_soci/images/1.0',
      '/v2/team/app/_soci/images/1.0/files/',
      `/v2/team/app/_soci/layers/${blobDigest}`,
      `/v2/team/app/_soci/layers/${blobDigest}/files`,
    ];
    const failed: string[] = [];
    for (const route of routes) {
      for (const value of ODD_VALUES) {
        const target = `${route}?${name}=${value}`;
        const status = await statusOf(target);
        if (!(status < 500)) failed.push(`${target}: ${status}`);
      }
    }
    expect(failed).toEqual([]);
  });

  it('does not choose an upstream by a letter that is a `k` in lower case', async () => {
    expect(await statusOf('/v2/team/app/manifests/1.0?ns=%E2%84%AAnown')).toBe(403);
    expect(await statusOf('/v2/team/app/manifests/1.0?ns=KNOWN')).toBe(200);
  });

  it('does not change the name in a list of tags', async () => {
    const name = async (query: string): Promise<unknown> =>
      ((await (await fetch(`${known.app.url}/v2/team/app/tags/list${query}`)).json()) as { name: unknown })
        .name;
    expect(await name('?a=/tags/list')).toBe('team/app');
    expect(await name('?/v2/x/tags/list')).toBe('team/app');
  });
});
