import { isSpandrelError } from '../../core/errors.ts';
import { parsePlatform, type Platform } from '../../core/platform.ts';
import { splitFlagList } from './split-flag-list.ts';
import { UsageError } from './usage-error.ts';

/**
 * Values of `--platform`. @param host fills in what they leave out
 * @throws UsageError
 */
export function parsePlatformFlags(values: readonly string[], host: Platform): Platform[] {
  return splitFlagList(values).map((text) => {
    try {
      return parsePlatform(text, host);
    } catch (error) {
      if (isSpandrelError(error, 'QUERY_INVALID')) throw new UsageError(`--platform: ${error.message}`);
      throw error;
    }
  });
}
