import { expect, it } from 'vitest';

import { memberId } from '../../src/replicas/member.ts';
import type { SeenMember } from '../../src/replicas/members.ts';
import { PeerLinks } from '../../src/replicas/peer-links.ts';

const URL = 'http://10.0.0.2:5000';

function member(boot: string): SeenMember {
  return { id: memberId(URL), url: URL, boot, sinceMs: 0, atMs: 0, leases: 0, silentMs: 0 };
}

it('the way to a replica is closed for a pause that grows with each fault, up to eight seconds', () => {
  let now = 0;
  const links = new PeerLinks({ responds: () => Promise.resolve(true) }, () => now);
  const peer = member('first');
  expect(links.isOpen(peer)).toBe(true);
  for (const pauseMs of [500, 1_000, 2_000, 4_000, 8_000, 8_000]) {
    links.noteFault(peer);
    now += pauseMs - 1;
    expect(links.isOpen(peer)).toBe(false);
    now += 1;
    expect(links.isOpen(peer)).toBe(true);
  }
  links.noteUse(peer);
  links.noteFault(peer);
  now += 500;
  expect(links.isOpen(peer)).toBe(true);
});

it('a replica that has started again is asked at once', () => {
  const links = new PeerLinks({ responds: () => Promise.resolve(true) }, () => 0);
  links.noteFault(member('first'));
  expect(links.isOpen(member('first'))).toBe(false);
  expect(links.isOpen(member('second'))).toBe(true);
});

it('all who wonder about a replica ask it once, and no response closes the way', async () => {
  let asked = 0;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const responds = async (): Promise<boolean> => {
    asked++;
    return promise;
  };
  const links = new PeerLinks({ responds }, () => 0);
  const peer = member('first');
  const all = Promise.all([links.responds(peer), links.responds(peer), links.responds(peer)]);
  resolve(false);
  expect(await all).toEqual([false, false, false]);
  expect(asked).toBe(1);
  expect(links.isOpen(peer)).toBe(false);
});
