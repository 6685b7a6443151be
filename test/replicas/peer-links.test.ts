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

it('all who wonder about a replica ask it once a second; no response closes the way', async () => {
  let now = 0;
  const answers: ((isThere: boolean) => void)[] = [];
  const responds = (): Promise<boolean> => new Promise((resolve) => answers.push(resolve));
  const links = new PeerLinks({ responds }, () => now);
  const peer = member('first');
  const all = Promise.all([links.responds(peer), links.responds(peer), links.responds(peer)]);
  answers[0]?.(true);
  expect(await all).toEqual([true, true, true]);
  now = 999;
  expect(await links.responds(peer)).toBe(true);
  expect(answers).toHaveLength(1);
  now = 1_000;
  const next = links.responds(peer);
  answers[1]?.(false);
  expect(await next).toBe(false);
  expect(links.isOpen(peer)).toBe(false);
  // That it did not respond is asked again at once.
  const again = links.responds(peer);
  answers[2]?.(true);
  expect(await again).toBe(true);
});
