import { optional } from './config-key.ts';
import { filePath, secretFile, sharedKey, text } from '../value-kinds.ts';

/** The keys of replicas that work together. */
export const REPLICA_KEYS = {
  'replica.url': optional(
    text,
    'where other replicas reach the registry listener of this one, like `http://10.0.0.7:5000`; they ' +
      'then fetch each blob and build each index once. Port 0 stands for `listen.port`. Needs ' +
      '`cache.redis.url` and a token',
  ),
  'replica.token': optional(
    sharedKey,
    'what replicas sign their requests to each other with, the same for all of them; it also makes the ' +
      'key of the seal on values in Redis where `cache.redis.key` is not set',
  ),
  'replica.tokenFile': optional(secretFile, 'file that holds the token; a change needs a restart'),
  'replica.ca': optional(
    filePath,
    'PEM file of the authority of replicas with `https://` URLs, trusted besides the usual ones. Where ' +
      '`listen.tls.clientCa` is set, a replica shows `listen.tls.cert` to the others, so that must also be ' +
      'valid for clients',
  ),
  'replica.serverName': optional(
    text,
    'name that the certificates of all replicas have, like `registry.internal.example.com`, where that ' +
      'is not the host of `replica.url`',
  ),
} as const;
