import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

import { fastify } from 'fastify';
import { describe, expect, it } from 'vitest';

import { listenOn } from '../../../src/http/listener/listen-on.ts';
import { cleanup } from '../../helpers/cleanup.ts';

describe('a listener that cannot be opened', () => {
  it('names the setting, the process that has the port, and the way out', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    cleanup.defer(() => void holder.close());
    await once(holder, 'listening');
    const { port } = holder.address() as AddressInfo;
    const server = fastify();
    cleanup.defer(() => server.close());
    await expect(listenOn(server, 'admin', { host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'LISTEN_FAILED',
      message: expect.stringMatching(
        new RegExp(
          `^admin\\.port: port ${port} of 127\\.0\\.0\\.1 is taken by process ${process.pid} \\(.*\\): ` +
            'stop it, or set another port \\(SPANDREL_ADMIN_PORT\\)$',
        ),
      ) as string,
    });
  });

  it('names the setting of an address that this machine does not have', async () => {
    const server = fastify();
    cleanup.defer(() => server.close());
    // TEST-NET-1 of RFC 5737.
    await expect(listenOn(server, 'listen', { host: '192.0.2.1', port: 0 })).rejects.toMatchObject({
      code: 'LISTEN_FAILED',
      message: 'listen.host: 192.0.2.1 is not an address of this machine: set another (SPANDREL_LISTEN_HOST)',
    });
  });
});
