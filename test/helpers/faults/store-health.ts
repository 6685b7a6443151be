import { StoreHealth } from '../../../src/blobs/files/store-health.ts';
import type { Logger } from '../../../src/telemetry/logger.ts';
import { Events } from '../../../src/telemetry/events.ts';

/** The health of a store whose metrics nobody looks at. */
export function healthOf(logger: Logger): StoreHealth {
  return new StoreHealth({ events: new Events(logger) });
}
