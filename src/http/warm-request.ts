import type { Platform } from '../core/descriptor.ts';
import { SpandrelError } from '../core/errors.ts';
import { parsePlatform } from '../core/platform.ts';

/** Fills in what a short platform leaves out. */
const USUAL_PLATFORM = { os: 'linux', architecture: 'amd64' };

/** Body of `POST /api/v1/warm`. @throws SpandrelError QUERY_INVALID */
export function parseWarmRequest(body: unknown): { image: string; platforms?: readonly Platform[] } {
  if (typeof body !== 'object' || body === null || !('image' in body) || typeof body.image !== 'string')
    throw invalid();
  if (!('platforms' in body) || body.platforms === undefined) return { image: body.image };
  const { platforms } = body;
  const isList = Array.isArray(platforms) && platforms.every((platform) => typeof platform === 'string');
  if (!isList) throw invalid();
  const parsed = platforms.map((platform) => parsePlatform(platform, USUAL_PLATFORM));
  return parsed.length === 0 ? { image: body.image } : { image: body.image, platforms: parsed };
}

function invalid(): SpandrelError {
  return new SpandrelError(
    'QUERY_INVALID',
    'expected {"image": "upstream/repository:tag", "platforms"?: ["linux/amd64"]}',
  );
}
