// Tabs of one browser share the session: when one signs in or out or moves to another organization, the others follow.
import { queries, session } from './queries';

const channel = new BroadcastChannel('flowyte-session');

/** Says to the other tabs that the session has changed. */
export function tellTabs(): void {
  channel.postMessage('changed');
}

/** Learns anew whose session it is; the pages follow what it says. */
export function learnSession(): void {
  void queries.invalidateQueries({ queryKey: session.queryKey });
}

channel.onmessage = learnSession;
