import { vi } from 'vitest';

import { cleanup } from '../cleanup.ts';
import { makeSecret } from '../secrets.ts';

/**
 * Give the AWS SDK in this process these variables, and no other source of credentials that the machine may
 * have. Until the end of the test, or of the file if there is none.
 */
export function setAwsEnvironment(variables: Readonly<Record<string, string>>): void {
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined);
  const isolated = {
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_MAX_ATTEMPTS: '1',
    ...variables,
  };
  for (const [name, value] of Object.entries(isolated)) vi.stubEnv(name, value);
  cleanup.defer(() => {
    vi.unstubAllEnvs();
  });
}

/** Long-lived keys in the environment. */
export const STATIC_KEYS = {
  AWS_ACCESS_KEY_ID: 'AKIASTATIC',
  AWS_SECRET_ACCESS_KEY: makeSecret('AWS secret access key'),
};
