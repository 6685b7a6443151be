import { describe, expect, it } from 'vitest';

import { parseEcrHost } from '../../src/core/ecr-host.ts';

describe('parseEcrHost', () => {
  it.each([
    ['123456789012.dkr.ecr.eu-west-1.amazonaws.com', 'eu-west-1', false, false],
    ['123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com', 'us-gov-west-1', true, false],
    ['123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn', 'cn-north-1', false, false],
    ['123456789012.dkr-ecr.ap-south-2.on.aws', 'ap-south-2', false, true],
    ['123456789012.dkr-ecr-fips.us-east-1.on.aws', 'us-east-1', true, true],
    ['123456789012.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn', 'cn-northwest-1', false, true],
    ['123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu', 'eusc-de-east-1', false, false],
    ['123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov', 'us-iso-east-1', false, false],
    ['123456789012.DKR.ecr.eu-west-1.amazonaws.com:443', 'eu-west-1', false, false],
  ])('reads %s', (host, region, isFips, isDualStack) => {
    expect(parseEcrHost(host)).toEqual({
      kind: 'private',
      account: '123456789012',
      region,
      isFips,
      isDualStack,
    });
  });

  it.each(['public.ecr.aws', 'ecr-public.aws.com'])('recognizes %s as ECR Public', (host) => {
    expect(parseEcrHost(host)).toEqual({ kind: 'public' });
  });

  it.each([
    'docker.io',
    '12345.dkr.ecr.eu-west-1.amazonaws.com',
    '123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example',
    'evil.123456789012.dkr.ecr.eu-west-1.amazonaws.com',
    '123456789012.dkr.ecr.amazonaws.com',
    'public.ecr.aws.evil.example',
  ])('does not recognize %s', (host) => {
    expect(parseEcrHost(host)).toBeUndefined();
  });
});
