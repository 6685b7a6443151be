import { promisify } from 'node:util';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { AddressGuard } from '../../src/upstream/address-guard.ts';
import { openClient } from '../helpers/registry-clients.ts';
import { ScriptedUpstream } from '../helpers/scripted-upstream.ts';

describe('AddressGuard', () => {
  it.each([
    '169.254.169.254',
    '169.254.170.2',
    '169.254.170.23',
    '[fd00:ec2::254]',
    '[fd00:ec2::23]',
    '[fe80::1]',
    '[::ffff:169.254.169.254]',
    '[64:ff9b::169.254.169.254]',
    '100.100.100.200',
    '127.0.0.1',
    '127.9.9.9',
    '0x7f.1',
    '2130706433',
    '0',
    '0.0.0.0',
    '[::]',
    '[::1]',
    '[::ffff:127.0.0.1]',
  ])('keeps a registry of the Internet from leading to %s', (hostname) => {
    const guard = new AddressGuard('hub', 'registry-1.docker.io');
    // As the parser of URLs writes it.
    const written = new URL(`http://${hostname}/`).hostname;
    expect(() => guard.checkHost(written)).toThrow(expect.objectContaining({ code: 'UPSTREAM_PROTOCOL' }));
  });

  it.each(['10.1.2.3', '192.168.0.1', '[fd12:3456::1]', '52.216.0.1'])('lets it lead to %s', (hostname) => {
    new AddressGuard('hub', 'registry-1.docker.io').checkHost(hostname);
  });

  it.each([
    ['127.0.0.1', '127.0.0.2', true],
    ['localhost', '127.0.0.1', true],
    ['[::1]', '127.0.0.1', true],
    ['127.0.0.1', '169.254.169.254', false],
    ['169.254.1.1', '169.254.169.254', true],
    ['169.254.1.1', '127.0.0.1', false],
  ])('of an upstream at %s lets %s through: %s', (own, target, isAllowed) => {
    const check = (): void => new AddressGuard('own', own).checkHost(target);
    if (isAllowed) check();
    else expect(check).toThrow(expect.objectContaining({ code: 'UPSTREAM_PROTOCOL' }));
  });

  it('looks at the addresses behind a name, except that of the upstream itself', async () => {
    const resolve = (own: string): Promise<unknown> =>
      promisify(new AddressGuard('hub', own).lookup)('localhost', { all: true });
    await expect(resolve('registry-1.docker.io')).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    await expect(resolve('localhost')).resolves.toBeDefined();
  });
});

describe('an upstream on this machine', () => {
  it('cannot lead to the credentials of the machine by a token service', async () => {
    await using registry = await ScriptedUpstream.start((_request, response) =>
      response
        .writeHead(401, { 'www-authenticate': 'Bearer realm="http://169.254.170.2/v2/credentials"' })
        .end(),
    );
    await using opened = await openClient({ name: 'test', url: registry.url });
    await expect(opened.client.statBlob('app', digestOf('x'))).rejects.toMatchObject({
      code: 'UPSTREAM_PROTOCOL',
    });
  });
});
