import { randomBytes } from 'node:crypto';
import { request } from 'node:http';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import {
  type Answered,
  DOCKER_MANIFEST,
  errorCode,
  KnownRepository,
  manifestBytes,
  OCI_INDEX,
  OCI_MANIFEST,
  sha512,
} from '../helpers/images/known-repository.ts';

let known: KnownRepository;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
});

/** Sends several header lines of one name, which fetch would join. */
function askWithLines(path: string, lines: string[]): Promise<{ status: number; type: string }> {
  return new Promise((resolve, reject) => {
    const asking = request(
      `${known.app.url}/v2/team/app/${path}`,
      { headers: { accept: lines } },
      (answer) => {
        answer.resume();
        answer.once('end', () =>
          resolve({ status: answer.statusCode ?? 0, type: answer.headers['content-type'] ?? '' }),
        );
      },
    );
    asking.once('error', reject);
    asking.end();
  });
}

describe('distribution spec, "Determining Support" (end-1)', () => {
  it.each(['GET', 'HEAD'])('%s /v2/ is answered with 200', async (method) => {
    const answer = await known.ask('/v2/', {}, method);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/json']);
  });
});

describe('distribution spec, "Pulling manifests" (end-3)', () => {
  it('a tag and the digest answer the manifest, with its digest, length and exact type', async () => {
    for (const reference of ['1.0', known.manifestDigest]) {
      const answer = await known.ask(`manifests/${reference}`);
      expect(answer.status).toBe(200);
      expect(answer.body.equals(known.manifest)).toBe(true);
      expect(answer.headers.get('docker-content-digest')).toBe(known.manifestDigest);
      expect(answer.headers.get('content-length')).toBe(String(known.manifest.length));
      expect(answer.headers.get('content-type')).toBe(OCI_MANIFEST);
    }
  });

  it.each([
    OCI_MANIFEST,
    OCI_INDEX,
    DOCKER_MANIFEST,
    'application/vnd.docker.distribution.manifest.list.v2+json',
  ])('the Content-Type is what was pushed, without parameters: %s', async (type) => {
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: type, manifests: [], layers: [] }),
    );
    const digest = known.upstream.addManifest('team/app', 'typed', bytes, type);
    for (const reference of ['typed', digest]) {
      const answer = await known.ask(`manifests/${reference}`);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([200, type]);
      expect(answer.body.equals(bytes)).toBe(true);
    }
  });

  it('several Accept lines, one with many types, and none at all are the same', async () => {
    for (const lines of [[OCI_INDEX, OCI_MANIFEST], [`${OCI_INDEX};q=0.5, ${OCI_MANIFEST}`, '*/*'], []])
      expect(await askWithLines('manifests/1.0', lines)).toEqual({ status: 200, type: OCI_MANIFEST });
  });

  it('a manifest of a megabyte is passed on', async () => {
    const bytes = manifestBytes({ annotations: { padding: randomBytes(500_000).toString('hex') } });
    const digest = known.upstream.addManifest('team/app', 'large', bytes, OCI_MANIFEST);
    expect((await known.ask('manifests/large')).body.equals(bytes)).toBe(true);
    expect((await known.ask(`manifests/${digest}`)).body.equals(bytes)).toBe(true);
  });

  it('a manifest by its sha512 digest is verified and answered under it', async () => {
    const bytes = manifestBytes({ annotations: { of: 'sha512' } });
    const digest = sha512(bytes);
    known.upstream.addManifest('team/app', digest, bytes, OCI_MANIFEST);
    const answer = await known.ask(`manifests/${digest}`);
    expect([answer.status, answer.headers.get('docker-content-digest')]).toEqual([200, digest]);
    const wrong = sha512(Buffer.from('something else'));
    known.upstream.addManifest('team/app', wrong, bytes, OCI_MANIFEST);
    expect((await known.ask(`manifests/${wrong}`)).status).toBe(502);
  });

  it('a tag whose manifest the registry names by sha512 is answered with that digest', async () => {
    const bytes = manifestBytes({ annotations: { of: 'a tag with sha512' } });
    const digest = sha512(bytes);
    known.upstream.addManifest('team/app', digest, bytes, OCI_MANIFEST);
    known.upstream.content.addTag('team/app', 'long', digest);
    for (const method of ['HEAD', 'GET'])
      expect((await known.ask('manifests/long', {}, method)).headers.get('docker-content-digest')).toBe(
        digest,
      );
  });

  it.each([
    ['an unknown tag', 'manifests/nothing', 404, 'MANIFEST_UNKNOWN'],
    ['what can be no tag', 'manifests/.INVALID_MANIFEST_NAME', 404, 'MANIFEST_UNKNOWN'],
    ['an unknown digest', `manifests/${digestOf('nothing')}`, 404, 'MANIFEST_UNKNOWN'],
    ['an unknown repository', '/v2/nobody/nothing/manifests/1.0', 404, 'NAME_UNKNOWN'],
    ['a digest that is none', 'manifests/sha256:totallywrong', 400, 'DIGEST_INVALID'],
    ['a name that is none', '/v2/Team/App/manifests/1.0', 400, 'NAME_INVALID'],
  ])('%s is answered with its status and code', async (_what, path, status, code) => {
    const answer = await known.ask(path);
    expect([answer.status, errorCode(answer)]).toEqual([status, code]);
    const head = await known.ask(path, {}, 'HEAD');
    expect([head.status, head.body.length]).toEqual([status, 0]);
  });
});

describe('distribution spec, "Checking if content exists in the registry"', () => {
  it('HEAD of a manifest has the headers of GET and no body', async () => {
    for (const reference of ['1.0', known.manifestDigest]) {
      const [head, get] = [
        await known.ask(`manifests/${reference}`, {}, 'HEAD'),
        await known.ask(`manifests/${reference}`),
      ];
      expect([head.status, head.body.length]).toEqual([200, 0]);
      for (const name of ['content-type', 'content-length', 'docker-content-digest', 'etag'])
        expect(head.headers.get(name), name).toBe(get.headers.get(name));
    }
  });

  it('HEAD of a blob has size and digest, and fetches none of its bytes', async () => {
    const bytes = randomBytes(200_000);
    const digest = await known.upstream.addBlob('team/app', new Uint8Array(bytes));
    const head: Answered = await known.ask(`blobs/${digest}`, {}, 'HEAD');
    expect([
      head.status,
      head.headers.get('content-length'),
      head.headers.get('docker-content-digest'),
    ]).toEqual([200, '200000', digest]);
    const asked = known.upstream.requests.entries.filter(({ path }) => path.endsWith(digest));
    expect(asked.map(({ method }) => method)).toEqual(['HEAD']);
  });

  it('HEAD of an unknown blob is answered with 404 and no body', async () => {
    const head = await known.ask(`blobs/${digestOf('no blob')}`, {}, 'HEAD');
    expect([head.status, head.body.length]).toEqual([404, 0]);
  });
});
