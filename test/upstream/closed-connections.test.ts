import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { expect, it } from 'vitest';

import { RunningApp } from '../helpers/running-app.ts';

const CONNECTIONS = 40;

it('a connection that an upstream closed leaves neither a listener nor an object behind', async () => {
  await using stack = new AsyncDisposableStack();
  let connections = 0;
  const server = createServer((_request, response) => {
    response.writeHead(404, { connection: 'close' }).end();
  });
  server.on('connection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stack.defer(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  // The app looks for crowded signals when it comes to rest.
  const app = stack.use(await RunningApp.start({ upstreams: [{ name: 'up', url }] }));
  for (let tag = 0; tag < CONNECTIONS; tag++) {
    const response = await fetch(`${app.url}/v2/up/app/manifests/tag-${tag}`);
    expect(response.status).toBe(404);
    await response.arrayBuffer();
  }
  expect(connections).toBeGreaterThanOrEqual(CONNECTIONS);
});
