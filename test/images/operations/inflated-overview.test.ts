import { expect, it } from 'vitest';

import type { ImageDescription } from '../../../src/images/operations/image-overview.ts';
import { seededText } from '../../helpers/layers/gzip-corpus.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import {
  gzipped,
  requestBlob,
  type ServedManifest,
  sha256,
  startInflating,
  TAR_SPAN_BYTES,
  zstd,
} from '../../helpers/images/inflated-image.ts';
import { runInProcess } from '../../helpers/run-in-process.ts';
import { SnapshotterClient } from '../../helpers/clients/snapshotter-client.ts';
import { tarArchive } from '../../helpers/layers/tar-blocks.ts';

const text = Buffer.from(seededText(41, 200_000));
const tarA = tarArchive({ 'etc/a.txt': text.subarray(0, 120_000) });
const tarB = tarArchive({ 'usr/b.txt': text.subarray(120_000) });

it('status, warm, doctor, span and file API, and metrics know the inflated form', async () => {
  await using upstream = await ImageUpstream.start();
  await upstream.addImage('team/app', [gzipped(tarA), zstd(tarB)]);
  await upstream.addImage('team/other', [gzipped(tarArchive({ other: text }))]);
  const app = await startInflating(upstream);
  const base = `${app.url}/v2/up/team/app`;
  const warmed = await runInProcess('warm', '--admin', app.adminUrl, 'up/team/app:latest');
  expect([warmed.status, warmed.stderr]).toEqual([0, '']);

  // Not a lazy client: it starts nothing.
  const response = await fetch(`${base}/manifests/latest`, {
    headers: {
      accept: 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json',
    },
  });
  const { layers, annotations } = (await response.json()) as ServedManifest;
  expect(layers.map(({ digest }) => digest)).toEqual([sha256(tarA), sha256(tarB)]);
  expect(await app.metric('spandrel_tag_responses_total{form="inflated"}')).toBe(1);

  const client = new SnapshotterClient({ repositoryUrl: base });
  await client.start('latest');
  await client.readEverything();
  const overview = (await (await fetch(`${base}/_soci/images/latest`)).json()) as ImageDescription;
  expect(overview.platforms).toMatchObject([
    {
      soci: { v2: annotations?.['com.amazon.soci.index-digest'] },
      pulls: { lazy: 1, full: 0 },
      layers: [tarA, tarB].map((tar) => ({
        tar: { digest: sha256(tar), size: tar.length, spanBytes: TAR_SPAN_BYTES },
      })),
    },
  ]);

  const doctor = await runInProcess(
    'doctor',
    '--json',
    '--no-node',
    '--proxy',
    app.url,
    'up/team/app:latest',
  );
  const said = JSON.parse(doctor.stdout) as {
    findings: { status: string; message: string }[];
    image: { platforms: object[] };
  };
  expect(doctor.status).toBe(0);
  expect(said.image.platforms).toMatchObject([{ lazy: true, layers: { lazy: 2, total: 2 } }]);
  expect(said.findings.filter(({ message }) => message.includes('is read decompressed'))).toHaveLength(2);

  // By what nodes know of the image: its digest, and the diffIDs of its layers.
  const digest = response.headers.get('docker-content-digest') ?? '';
  const file = await fetch(`${base}/_soci/images/${digest}/files/usr/b.txt`);
  expect(Buffer.from(await file.arrayBuffer()).equals(text.subarray(120_000))).toBe(true);
  const part = await fetch(`${base}/_soci/layers/${sha256(tarA)}/tar`, {
    headers: { range: 'bytes=9-5000' },
  });
  expect(Buffer.from(await part.arrayBuffer()).equals(tarA.subarray(9, 5001))).toBe(true);
  const elsewhere = await fetch(`${app.url}/v2/up/team/other/_soci/layers/${sha256(tarA)}/tar`);
  expect(elsewhere.status).toBe(404);

  await requestBlob(app, sha256(tarA), { 'accept-encoding': 'gzip' });
  const after = (await (await fetch(`${base}/_soci/images/latest`)).json()) as ImageDescription;
  expect(after.platforms[0]?.pulls).toEqual({ lazy: 1, full: 1 });
});
