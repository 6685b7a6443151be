import { describe, expect, it } from 'vitest';

import { ERRORS, type ErrorCode, SpandrelError } from '../../../src/core/errors.ts';
import { errorResponse } from '../../../src/http/responses/error-response.ts';

function bodyOf(error: unknown): unknown {
  const { body } = errorResponse(error);
  return JSON.parse(Buffer.from(body).toString());
}

describe('errorResponse', () => {
  it.each(Object.keys(ERRORS) as ErrorCode[])('%s has its status and an OCI body', (code) => {
    const error = new SpandrelError(code, 'words', { detail: { a: 1 } });
    expect(errorResponse(error).status).toBe(ERRORS[code].status);
    expect(bodyOf(error)).toEqual({ errors: [{ code, message: 'words', detail: { a: 1 } }] });
  });

  it('shows nothing of a defect but INTERNAL', () => {
    expect(errorResponse(new TypeError('password is hunter2')).status).toBe(500);
    expect(JSON.stringify(bodyOf(new TypeError('password is hunter2')))).not.toContain('hunter2');
  });

  it('has a Retry-After of at least one second with every 503', () => {
    for (const code of Object.keys(ERRORS) as ErrorCode[]) {
      const { status, headers } = errorResponse(new SpandrelError(code, ''));
      if (status === 503) expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(1);
      else expect(headers).not.toHaveProperty('retry-after');
    }
  });

  it('has the size of the content in a 416', () => {
    const { status, headers } = errorResponse(
      new SpandrelError('RANGE_INVALID', '', { detail: { sizeBytes: 7 } }),
    );
    expect([status, headers['content-range']]).toEqual([416, 'bytes */7']);
  });
});
