import swagger from '@fastify/swagger';
import { type FastifyInstance, fastify } from 'fastify';

import { ADMIN_API, type AdminOperation } from './admin-api.ts';
import { SHARED_SCHEMAS } from './admin-api-schemas.ts';

/**
 * Make `server.swagger()` describe the routes that are added to `server` from now on. For a server whose
 * routes are those of `ADMIN_API`.
 */
export function documentAdminApi(server: FastifyInstance): void {
  for (const [name, schema] of Object.entries(SHARED_SCHEMAS)) server.addSchema({ $id: name, ...schema });
  server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Spandrel admin API',
        description: 'Health, metrics, store and jobs of the registry proxy.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
        version: 'v1',
      },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: { token: { type: 'http', scheme: 'bearer', description: '`admin.token`' } },
      },
    },
    refResolver: {
      buildLocalReference: ({ $id }, _base, _fragment, place) =>
        typeof $id === 'string' ? $id : `schema${place}`,
    },
  });
}

/** The OpenAPI document of the admin listener, without a running one. */
export async function describeAdminApi(): Promise<object> {
  const server = fastify();
  documentAdminApi(server);
  server.register(async (routes) => {
    for (const operation of Object.values<AdminOperation>(ADMIN_API))
      routes.route({ ...operation, handler: () => Promise.reject(new Error('only described')) });
  });
  await server.ready();
  const document = server.swagger();
  await server.close();
  return document;
}
