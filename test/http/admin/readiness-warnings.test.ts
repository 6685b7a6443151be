import { expect, it } from 'vitest';

import type { BlobStore } from '../../../src/blobs/blob-store.ts';
import { ReadinessChecks } from '../../../src/http/admin/readiness.ts';
import type { Connections } from '../../../src/http/listener/connections.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';

it('warnings name what needs attention, and keep no proxy from being ready; a metric tells', async () => {
  const events = new Events(collectingLogger());
  let isLocked = true;
  let isWritable = true;
  let certificateProblems: readonly string[] = [];
  const checks = new ReadinessChecks({
    accepting: () => true,
    blobs: {
      state: () => Promise.resolve({ isWritable, isLocked, freeBytes: 1 }),
    } as unknown as BlobStore,
    redis: undefined,
    durable: undefined,
    clients: [],
    events,
    connections: () => [{ problems: certificateProblems } as unknown as Connections],
    required: { redis: false },
  });
  expect(await checks.run()).toMatchObject({ status: 'ready', warnings: [] });

  events.configRefused('SIGHUP', ['listen.prot: unknown key'], false);
  certificateProblems = ['listen.tls.cert: the certificate expired'];
  isLocked = false;
  expect(await checks.run()).toMatchObject({
    status: 'ready',
    missing: [],
    warnings: [
      'listen.tls.cert: the certificate expired',
      'the configuration in the files is refused: listen.prot: unknown key',
      expect.stringMatching(/^storage\.root: the file of the lock/),
    ],
  });

  events.credentialsRefused('corp', 'robot', 'it answered 401');
  expect((await checks.run()).warnings).toContain(
    'upstream corp refuses the credentials of the proxy: see its auth, and the log',
  );
  events.credentialsAccepted('corp', true);

  events.configApplied('SIGHUP', ['upstreams', 'storage.maxBytes']);
  [certificateProblems, isLocked] = [[], true];
  expect(await checks.run()).toMatchObject({
    status: 'ready',
    warnings: ['upstreams', 'storage.maxBytes'].map(
      (key) => `${key}: changed in the files, in use only after a restart`,
    ),
  });

  events.configApplied('SIGHUP', []);
  [certificateProblems, isLocked] = [[], true];
  expect(await checks.run()).toMatchObject({ status: 'ready', warnings: [] });

  const metric = async (): Promise<string | undefined> =>
    /^spandrel_ready (\d)$/m.exec((await events.printMetrics()).text)?.[1];
  expect(await metric()).toBe('1');
  isWritable = false;
  expect(await checks.run()).toMatchObject({ status: 'failing', missing: ['store'] });
  expect(await metric()).toBe('0');
});
