import type * as Dns from 'node:dns';
import { lookup } from 'node:dns';
import type * as Os from 'node:os';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';

import { describe, expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { S3_HOST } from '../../src/core/ecr-host.ts';
import { AddressGuard, type AddressRules } from '../../src/upstream/address-guard.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

// Names and interfaces that no machine of tests has.
vi.mock('node:dns', async (load) => {
  const dns = await load<typeof Dns>();
  return { ...dns, lookup: vi.fn<typeof dns.lookup>(dns.lookup) };
});
vi.mock('node:os', async (load) => {
  const os = await load<typeof Os>();
  return { ...os, networkInterfaces: vi.fn<typeof os.networkInterfaces>(os.networkInterfaces) };
});

const REFUSED = { code: 'UPSTREAM_PROTOCOL' };

/** Whether an upstream at `own` may lead to the host of a URL. */
function leads(own: string, hostname: string, rules: AddressRules = {}): boolean {
  const guard = new AddressGuard('test', own, rules);
  try {
    // As the parser of URLs writes it.
    guard.checkHost(new URL(`http://${hostname}/`).hostname);
    return true;
  } catch (error) {
    expect(error).toMatchObject(REFUSED);
    return false;
  }
}

/** The result of the lookup of a name with these addresses. */
async function lookUp(guard: AddressGuard, name: string, ...addresses: string[]): Promise<unknown> {
  const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  vi.mocked(lookup).mockImplementationOnce(
    ((_name: string, _options: object, callback: Function) => void callback(null, found)) as typeof lookup,
  );
  return promisify(guard.lookup)(name, { all: true });
}

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
  ])('refuses %s for a public registry', (hostname) => {
    const guard = new AddressGuard('hub', 'registry-1.docker.io');
    // As the parser of URLs writes it.
    const written = new URL(`http://${hostname}/`).hostname;
    expect(() => guard.checkHost(written)).toThrow(expect.objectContaining({ code: 'UPSTREAM_PROTOCOL' }));
  });

  const PRIVATE = [
    '10.1.2.3',
    '172.31.0.1',
    '192.168.0.1',
    '100.64.0.1',
    '240.0.0.1',
    '[::ffff:0:10.0.0.1]',
    '[fd12:3456::1]',
    '[64:ff9b::10.0.0.1]',
  ];

  it.each(PRIVATE)('refuses the private address %s for a public registry', (hostname) => {
    expect(leads('registry-1.docker.io', hostname)).toBe(false);
    expect(leads('registry-1.docker.io', hostname, { allowed: ['10.0.0.0/8', '172.16.0.0/12'] })).toBe(
      /10\.|172\.|a00:/.test(new URL(`http://${hostname}`).hostname),
    );
  });

  it.each([...PRIVATE, '[64:ff9b:1::8.8.8.8]', '52.216.0.1'])(
    'allows %s for a private registry',
    (hostname) => {
      expect(leads('10.0.0.5', hostname)).toBe(true);
      expect(leads('[fd00::5]', hostname)).toBe(true);
      expect(leads('localhost', hostname)).toBe(true);
    },
  );

  it('ignores the zone of an address', async () => {
    for (const address of ['fe80::1%eth0', '::1%lo', '::ffff:127.0.0.1%1', 'fd12:3456::1%2'])
      await expect(
        lookUp(new AddressGuard('test', 'registry.example.com'), 'cdn.example.com', address),
      ).rejects.toMatchObject(REFUSED);
  });

  it('allows addresses in an allowed network, and embedded ones only if they are in one too', () => {
    const allowed = ['52.216.0.0/16', '10.0.0.0/8'];
    // Teredo, with a server in the allowed network and a client that is this machine.
    expect(leads('registry.example.com', '[2001:0:34d8:1::80ff:fffe]', { allowed })).toBe(false);
    expect(leads('registry.example.com', '[2001:0:34d8:1::f5ff:fffe]', { allowed })).toBe(true);
  });

  it('refuses a name if any of its addresses is refused', async () => {
    const guard = new AddressGuard('test', 'registry.example.com');
    for (const bad of ['127.0.0.1', '10.0.0.6', '169.254.169.254', '::1']) {
      for (const order of [
        ['52.216.0.1', bad],
        [bad, '52.216.0.1'],
      ])
        await expect(lookUp(guard, 'cdn.example.com', ...order)).rejects.toMatchObject(REFUSED);
    }
  });

  it('counts private storage as proven, but not this machine', async () => {
    const [bucket, other] = ['bucket.s3.eu-west-1.amazonaws.com', 'storage.example.com'];
    const guard = new AddressGuard('test', 'localhost', { storage: S3_HOST });
    for (const [name, address] of [
      [bucket, '10.0.0.9'],
      [other, '52.216.0.1'],
    ] as const) {
      await lookUp(guard, name, address);
      expect(guard.isPrivate(name)).toBe(false);
    }
    for (const [name, address] of [
      [bucket, '127.0.0.1'],
      [other, '10.0.0.9'],
    ] as const) {
      await lookUp(guard, name, address);
      expect(guard.isPrivate(name)).toBe(true);
    }
  });

  it.each([
    '52.216.0.1',
    '[2600:1fa0::1]',
    '[64:ff9b::8.8.8.8]',
    '[2002:808:808::1]',
    '[64:ff9b:1::8.8.8.8]',
  ])('allows %s for every registry', (hostname) =>
    expect(leads('registry-1.docker.io', hostname)).toBe(true),
  );

  // Where RFC 6052 puts the octets of IPv4, by length of the prefix; RFC 3056, 4380, 5214, 4291.
  it.each([
    ['64:ff9b::a9fe:a9fe', 'NAT64'],
    ['64:ff9b::7f00:1', 'NAT64'],
    ['64:ff9b:1::a9fe:a9fe', 'local NAT64, /96'],
    ['64:ff9b:1:a9fe:a9:fe00::', 'local NAT64, /48'],
    ['64:ff9b:1:a9:fe:a9fe::', 'local NAT64, /56'],
    ['64:ff9b:1:0:a9:fea9:fe00::', 'local NAT64, /64'],
    ['2002:a9fe:a9fe::1', '6to4'],
    ['2002:7f00:1::', '6to4'],
    ['2001:0:808:808::5601:5601', 'Teredo: the bits of the client are turned round'],
    ['2001:0:a9fe:a9fe::', 'Teredo, server'],
    ['2600::5efe:a9fe:a9fe', 'ISATAP'],
    ['2600::200:5efe:7f00:1', 'ISATAP'],
    ['::a9fe:a9fe', 'IPv4-compatible'],
    ['::ffff:a9fe:a9fe', 'IPv4-mapped'],
    ['::ffff:0:7f00:1', 'IPv4-translated'],
    ['fd00:ec2::254', 'AWS'],
    ['fd20:ce::254', 'Google'],
    ['168.63.129.16', 'Azure'],
    ['192.0.0.192', 'Oracle'],
    ['224.0.0.1', 'multicast'],
    ['ff02::1', 'multicast'],
  ])('recognizes what %s stands for (%s)', (address) => {
    const hostname = address.includes(':') ? `[${address}]` : address;
    for (const own of ['registry-1.docker.io', '10.0.0.5', '169.254.1.1'])
      expect(leads(own, hostname)).toBe(false);
    expect(
      leads('registry-1.docker.io', hostname, {
        allowed: [`${address}/${address.includes(':') ? 128 : 32}`],
      }),
    ).toBe(true);
  });

  it.each([
    ['127.0.0.1', '127.0.0.2', true],
    ['localhost', '127.0.0.1', true],
    ['[::1]', '127.0.0.1', true],
    ['0.0.0.0', '127.0.0.1', true],
    ['127.0.0.1', '169.254.169.254', false],
    ['169.254.1.1', '169.254.1.1', true],
    ['169.254.1.1', '169.254.169.254', false],
    ['169.254.1.1', '127.0.0.1', false],
  ])('for an upstream at %s allows %s: %s', (own, target, isAllowed) => {
    expect(leads(own, target)).toBe(isAllowed);
  });

  it('knows the current addresses of this machine', () => {
    const interfaces = vi.mocked(networkInterfaces);
    const address = { netmask: '', mac: '', internal: false, cidr: null };
    const hosts = ['198.51.100.7', '[2001:db8::7]', '[::ffff:198.51.100.7]', '[64:ff9b::198.51.100.7]'];
    for (const host of hosts) expect(leads('registry.example.com', host)).toBe(true);
    interfaces.mockReturnValue({
      eth7: [
        { ...address, family: 'IPv4', address: '198.51.100.7' },
        { ...address, family: 'IPv6', address: '2001:db8::7', scopeid: 0 },
      ],
    });
    for (const own of ['registry.example.com', 'localhost', '10.0.0.5'])
      for (const host of hosts) expect(leads(own, host)).toBe(false);
    expect(leads('198.51.100.7', '198.51.100.7')).toBe(true);
    expect(leads('registry.example.com', '198.51.100.7', { allowed: ['198.51.100.0/24'] })).toBe(true);
    // As on a system without descriptors: the last known addresses count.
    interfaces.mockImplementation(() => {
      throw Object.assign(new Error('uv_interface_addresses'), { code: 'ERR_SYSTEM_ERROR' });
    });
    for (const host of hosts) expect(leads('registry.example.com', host)).toBe(false);
    interfaces.mockReset();
    expect(leads('registry.example.com', '198.51.100.7')).toBe(true);
  });

  const answers = (own: string, name: string, address: string, rules: AddressRules = {}): Promise<unknown> =>
    lookUp(new AddressGuard('test', own, rules), name, address);

  it.each([
    ['the upstream itself', 'registry.example.com', '10.0.0.5', true],
    ['the upstream itself, by NAT64', 'registry.example.com', '64:ff9b::a00:5', true],
    ['another name', 'storage.example.com', '10.0.0.5', false],
    ['the upstream itself', 'registry.example.com', '127.0.0.1', false],
    ['the upstream itself', 'registry.example.com', '169.254.169.254', false],
    ['the upstream itself', 'registry.example.com', 'fd00:ec2::254', false],
  ])('allows %s (%s) to have %s: %s', async (_who, name, address, isAllowed) => {
    const found = answers('registry.example.com', name, address);
    if (isAllowed) await expect(found).resolves.toBeDefined();
    else await expect(found).rejects.toMatchObject(REFUSED);
    await expect(
      answers('registry.example.com', name, address, { allowed: ['0.0.0.0/0', '::/0'] }),
    ).resolves.toBeDefined();
  });

  it('counts an upstream as private while its name has private addresses only', async () => {
    const guard = new AddressGuard('test', 'registry.example.com');
    const lead = (): Promise<unknown> => lookUp(guard, 'storage.example.com', '10.0.0.6');
    await expect(lead()).rejects.toMatchObject(REFUSED);
    await lookUp(guard, 'registry.example.com', '10.0.0.5');
    await lead();
    await lookUp(guard, 'registry.example.com', '52.216.0.1');
    await expect(lead()).rejects.toMatchObject(REFUSED);
  });

  it("allows private addresses for ECR's storage, and for nothing else", async () => {
    const own = '123456789012.dkr.ecr.eu-west-1.amazonaws.com';
    const rules = { storage: S3_HOST };
    const bucket = 'prod-eu-west-1-starport-layer-bucket';
    for (const host of [
      `${bucket}.s3.eu-west-1.amazonaws.com`,
      `${bucket}.s3.dualstack.eu-west-1.amazonaws.com`,
      `${bucket}.bucket.vpce-1a2b-3c.s3.eu-west-1.vpce.amazonaws.com`,
      `${bucket}.s3-eu-west-1.amazonaws.com`,
      `${bucket}.s3-fips.dualstack.us-gov-west-1.amazonaws.com`,
      `${bucket}.s3.amazonaws.com`,
      's3.cn-north-1.amazonaws.com.cn',
    ])
      await answers(own, host, '10.0.0.9', rules);
    for (const host of [
      'db.internal.example',
      's3.eu-west-1.amazonaws.com.example',
      'internal-lb.eu-west-1.elb.amazonaws.com',
      'fakes3.eu-west-1.amazonaws.com',
      's3-mine-1234567890.eu-west-1.elb.amazonaws.com',
      's3.mine.eu-west-1.elb.amazonaws.com',
      's3.internal.amazonaws.com',
    ])
      await expect(answers(own, host, '10.0.0.9', rules), host).rejects.toMatchObject(REFUSED);
    await expect(
      answers(own, `${bucket}.s3.eu-west-1.amazonaws.com`, '169.254.169.254', rules),
    ).rejects.toMatchObject(REFUSED);
  });

  it("checks the addresses of every name but the upstream's own", async () => {
    const resolve = (own: string): Promise<unknown> =>
      promisify(new AddressGuard('hub', own).lookup)('localhost', { all: true });
    await expect(resolve('registry-1.docker.io')).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    await expect(resolve('localhost')).resolves.toBeDefined();
  });
});

describe('an upstream on this machine', () => {
  it("cannot reach the machine's credentials through a token service", async () => {
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
