import { describeAdminApi } from './document-admin-api.ts';

/** The fields of an OpenAPI document that the table shows. */
interface OpenApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, OpenApiOperation>>>>;
}

interface OpenApiOperation {
  readonly summary: string;
  readonly security?: unknown;
  readonly requestBody?: {
    readonly content: Readonly<Record<string, { readonly schema: BodySchema } | undefined>>;
  };
  readonly responses: Readonly<Record<string, unknown>>;
}

interface BodySchema {
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, unknown>>;
}

/** The admin API as a table in Markdown, made from its OpenAPI document. */
export async function printAdminApi(): Promise<string> {
  const { paths } = (await describeAdminApi()) as OpenApiDocument;
  const rows = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => {
      const route = `\`${method.toUpperCase()} ${path.replaceAll('{', '<').replaceAll('}', '>')}\``;
      const statuses = Object.keys(operation.responses).filter((status) => status !== 'default');
      const token = operation.security === undefined ? '' : 'yes';
      const cells = [route, token, printBody(operation), statuses.join(', '), operation.summary];
      return `| ${cells.join(' | ')} |`;
    }),
  );
  return ['| route | token | body | statuses | response |', '|---|---|---|---|---|', ...rows].join('\n');
}

/** The fields of a JSON body: `{"image", "platforms"?}`. */
function printBody({ requestBody }: OpenApiOperation): string {
  const schema = requestBody?.content['application/json']?.schema;
  if (schema === undefined) return '';
  const { properties = {}, required = [] } = schema;
  const fields = Object.keys(properties).map((name) => `"${name}"${required.includes(name) ? '' : '?'}`);
  return fields.length === 0 ? 'JSON' : `\`{${fields.join(', ')}}\``;
}
