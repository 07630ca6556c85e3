// What the address of a page says: the parts of its path and of its query, as text.
import { useNavigate, useParams, useSearch } from '@tanstack/react-router';

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

/** Fields of the query, and a way to set them; an empty one is left out. `replace`: without a step that Back undoes. */
export function useQueryFields<N extends string>(...names: N[]): [Record<N, string>, (next: Partial<Record<N, string>>, replace?: boolean) => void] {
  const navigate = useNavigate();
  const search: unknown = useSearch({ strict: false });
  const fields = Object.fromEntries(names.map((name) => [name, text(search, name)])) as Record<N, string>;
  const set = (next: Partial<Record<N, string>>, replace = false) => {
    // What is there when it happens: a search that waited for a pause in typing must not undo what was chosen meanwhile.
    const filled = (now: object) => Object.fromEntries(Object.entries({ ...now, ...next }).filter(([, value]) => value !== ''));
    void navigate({ to: '.', search: filled, replace });
  };
  return [fields, set];
}

function text(of: unknown, name: string): string {
  const value = (of as Record<string, unknown>)[name];
  // The router reads `?search=123` as a number.
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}
