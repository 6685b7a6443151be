import { describe, expect, it } from 'vitest';

import { SpandrelError } from '../../src/core/errors.ts';
import { Events } from '../../src/telemetry/events.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import type { PublishedImage } from '../../src/telemetry/published-image.ts';

const TAG = '1-soci';
const NOTHING = { blobs: 0, manifests: 0, bytes: 0 };

function note(published: PublishedImage, failure?: SpandrelError): Record<string, unknown> {
  const lines: string[] = [];
  const events = new Events(createLogger('info', { write: (line) => void lines.push(line) }));
  events.imagePublished('up/app:1', published, failure);
  expect(lines).toHaveLength(1);
  return JSON.parse(lines[0] ?? '') as Record<string, unknown>;
}

describe('the log line of a publication', () => {
  it('says "image published" if something was pushed, or if a tag was set to what was there', () => {
    for (const pushed of [{ ...NOTHING, manifests: 1, bytes: 9 }, NOTHING])
      expect(note({ ...pushed, tag: TAG })).toMatchObject({
        msg: 'image published',
        outcome: 'published',
        tag: TAG,
      });
  });

  it('says why nothing was pushed, and names no tag that was not set', () => {
    const line = note({ ...NOTHING, unchanged: 'already_indexed' });
    expect(line).toMatchObject({
      msg: 'nothing to publish',
      outcome: 'unchanged',
      reason: 'already_indexed',
    });
    for (const claim of ['tag', 'blobs', 'manifests', 'bytes']) expect(line).not.toHaveProperty(claim);
  });

  it('names no tag and no digest if the publication has failed', () => {
    const line = note({ ...NOTHING, blobs: 2, bytes: 5 }, new SpandrelError('TAG_MOVED', 'moved'));
    expect(line).toMatchObject({ msg: 'image not published', code: 'TAG_MOVED', blobs: 2 });
    for (const claim of ['tag', 'digest']) expect(line).not.toHaveProperty(claim);
  });
});
