// The one-time token behind `#`: taken out of the address bar and the history before anything else runs.
const place = window.location;

/** The token of the link that was followed; empty where there was none. */
export const token: string = new URLSearchParams(place.hash.slice(1)).get('token') ?? '';

if (token) window.history.replaceState(null, '', place.pathname + place.search);
