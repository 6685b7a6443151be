import { parsePlatform, type Platform } from '../../core/platform.ts';
import { SpandrelError } from '../../core/errors.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';

/** Body of `POST /api/v1/warm`. @throws SpandrelError QUERY_INVALID */
export function parseWarmRequest(body: unknown): { image: string; platforms?: readonly Platform[] } {
  if (!isJsonObject(body)) throw invalid();
  const { image, platforms } = body;
  if (typeof image !== 'string') throw invalid();
  if (platforms === undefined) return { image };
  const isList = Array.isArray(platforms) && platforms.every((platform) => typeof platform === 'string');
  if (!isList) throw invalid();
  const parsed = platforms.map((platform) => parsePlatform(platform));
  return parsed.length === 0 ? { image } : { image, platforms: parsed };
}

function invalid(): SpandrelError {
  return new SpandrelError(
    'QUERY_INVALID',
    'expected {"image": "upstream/repository:tag", "platforms"?: ["linux/amd64"]}',
  );
}
