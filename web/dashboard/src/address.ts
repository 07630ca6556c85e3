// What the address of a page says: the parts of its path and of its query, as text.
import { useParams, useSearch } from '@tanstack/react-router';

/** A part of the path, `$keyId`. */
export function useParam(name: string): string {
  const params: unknown = useParams({ strict: false });
  return text(params, name);
}

/** A field of the query; empty where it is not there. */
export function useQueryField(name: string): string {
  const search: unknown = useSearch({ strict: false });
  return text(search, name);
}

function text(of: unknown, name: string): string {
  const value = (of as Record<string, unknown>)[name];
  // The router reads `?search=123` as a number.
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}
