import { expect, it } from 'vitest';

import { Descriptors } from '../../../src/telemetry/limits/descriptors.ts';
import { runProgramSync } from '../../helpers/programs.ts';

function limits(soft: string): string {
  return `Limit                     Soft Limit           Hard Limit           Units     
Max processes             100                  100                  processes 
Max open files            ${soft.padEnd(21)}1048576              files     
`;
}

it('the limit is the one that the system enforces', () => {
  const enforced = runProgramSync('sh', ['-c', 'ulimit -n']).toString().trim();
  expect(String(new Descriptors().limit ?? 'unlimited')).toBe(enforced);
});

it('the limit follows the running process, and stays known while no file can be opened', () => {
  let nowMs = 0;
  let text = limits('64');
  const read = (): string => {
    if (text === '') throw Object.assign(new Error('too many open files'), { code: 'EMFILE' });
    return text;
  };
  const descriptors = new Descriptors({ now: () => nowMs, read });
  expect(descriptors.limit).toBe(64);
  text = limits('4096');
  expect(descriptors.limit).toBe(64);
  nowMs = 1_000;
  expect(descriptors.limit).toBe(4096);
  [nowMs, text] = [2_000, ''];
  expect(descriptors.limit).toBe(4096);
  [nowMs, text] = [3_000, limits('unlimited')];
  expect(descriptors.limit).toBeUndefined();
});

it.each([
  ['64', 10_000, 10_256],
  ['1024', 1_000, 1_256],
  ['1255', 1_000, 1_256],
])('a limit of %s is too low for %i connections', (soft, connections, wanted) => {
  const problem = new Descriptors({ read: () => limits(soft) }).problemFor(connections);
  expect(problem).toContain(`may open ${soft} files`);
  expect(problem).toContain(`(${connections})`);
  expect(problem).toContain(`wants ${wanted}: raise LimitNOFILE`);
});

it.each([
  ['1256', 1_000],
  ['unlimited', 1_000_000],
])('a limit of %s is enough for %i connections', (soft, connections) => {
  expect(new Descriptors({ read: () => limits(soft) }).problemFor(connections)).toBeUndefined();
});

it('some descriptors are kept from clients: an eighth, at most 256', () => {
  expect([16, 64, 1024, 20_000].map((limit) => Descriptors.keptOf(limit))).toEqual([2, 8, 128, 256]);
});
