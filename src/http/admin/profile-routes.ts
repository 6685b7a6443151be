import type { FastifyInstance } from 'fastify';

import {
  describeProfile,
  parseDescribedProfile,
  parseProfiledRepository,
  type ProfileDescription,
} from '../../boot/profiles/describe-profile.ts';
import type { LearnedProfiles } from '../../boot/profiles/learned-profiles.ts';
import { SpandrelError } from '../../core/errors.ts';
import { targetKey } from '../../upstream/target.ts';
import type { Upstreams } from '../../upstream/upstreams.ts';
import { ADMIN_API } from './admin-api.ts';

export interface ProfileRoutesDeps {
  readonly profiles: LearnedProfiles;
  readonly upstreams: Upstreams;
}

/** As the schema of `ADMIN_API.profiles` has it. */
interface ProfilesQuery {
  readonly repository?: string;
  readonly after?: string;
}

const MAX_PAGE = 100;
/** A page ends with the profile that reaches this. */
const MAX_PAGE_FILES = 20_000;
/** The largest profile has some megabytes; clients send one at a time. */
const MAX_BODY_BYTES = 8 * 2 ** 20;

/** Fastify plugin: profiles of repositories, for other proxies. */
export async function profileRoutes(
  server: FastifyInstance,
  { profiles, upstreams }: ProfileRoutesDeps,
): Promise<void> {
  server.route<{ Querystring: ProfilesQuery }>({
    ...ADMIN_API.profiles,
    handler: async ({ query: { repository, after = '' } }) => {
      const isOne = repository !== undefined;
      const names = isOne
        ? [targetKey(upstreams.select({ name: repository }))]
        : profiles.list(after, MAX_PAGE);
      const found: (ProfileDescription & { readonly repository: string })[] = [];
      let files = 0;
      for (const name of names) {
        if (files >= MAX_PAGE_FILES) break;
        const profile = await profiles.readNamed(name);
        if (profile !== undefined) found.push({ repository: name, ...describeProfile(profile) });
        files += profile?.files.length ?? 0;
      }
      if (isOne && found.length === 0)
        throw new SpandrelError('PROFILE_UNKNOWN', `no start of an image of ${repository} was seen`);
      const last = found.at(-1)?.repository;
      const isMore = !isOne && last !== undefined && profiles.list(last, 1).length > 0;
      return { profiles: found, ...(isMore ? { next: last } : {}) };
    },
  });

  server.route<{ Body: { readonly profiles: readonly object[] } }>({
    ...ADMIN_API.importProfiles,
    bodyLimit: MAX_BODY_BYTES,
    handler: async ({ body }) => {
      const parsed = body.profiles.map((one) => ({
        repository: targetKey(upstreams.select({ name: parseProfiledRepository(one) })),
        profile: parseDescribedProfile(one),
      }));
      for (const { repository, profile } of parsed) await profiles.replace(repository, profile);
      return { imported: parsed.length };
    },
  });
}
