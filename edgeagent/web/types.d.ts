/** Types that several modules of the viewer share; those of the messages are in wire.d.ts. */
import type { AgentMessage, Bye, CameraState, Candidate, Hello, Offer, Quality, ViewerMessage } from './wire.js';

export type { AgentMessage, Answer, Bye, CameraState, Candidate, ErrorMessage, Flow, Hello, Ice, LayerState, Offer, State, Up, ViewerMessage } from './wire.js';

export interface Wish {
  camera: string;
  /** Whether its picture is needed now; false keeps its place in the connection. */
  active: boolean;
  /** The layer wished for; `auto` where it is left out. */
  layer?: string;
  /** `least`: shown as soon as it is there, not evenly. */
  delay?: Quality['delay'];
}

/** What happened, for `Link.handle`. `peer` is the number that the effect `open` gave. */
export type LinkEvent =
  /** `data`: a peer is wanted also where it carries no picture. */
  | { type: 'wanted'; cameras: Wish[]; data?: boolean }
  /** `down`: an attempt to reach what is behind the door has failed. */
  | { type: 'door'; door: string; ready: boolean; down?: boolean }
  | { type: 'presence'; up: boolean | null; epoch: string | null }
  | { type: 'hello'; hello: Hello }
  /** `keep`: the picture is needed although the page is hidden (picture-in-picture). */
  | { type: 'visible'; visible: boolean; keep: boolean }
  /** Timers stood still, or the network came back: nothing that was known is certain. */
  | { type: 'woke' }
  | { type: 'authorized' }
  | { type: 'retry' }
  | { type: 'tick' }
  /** With `peer` it came over that peer's data channel or was meant for it, else `sid` says which is meant. */
  | { type: 'message'; message: AgentMessage; peer?: number }
  /** The local description stands; `mids` of the new m-lines in order. */
  | { type: 'prepared'; peer: number; mids: string[] }
  | { type: 'unreachable'; peer: number }
  | { type: 'connection'; peer: number; state: string }
  | { type: 'channel'; peer: number; open: boolean }
  | { type: 'frame'; peer: number; mid: string; decoded?: boolean }
  | { type: 'broken'; peer: number; reason: string };

/** What to do, in order. */
export type LinkEffect =
  | { do: 'open'; peer: number; lines: number }
  | { do: 'extend'; peer: number; lines: number }
  | { do: 'rollback'; peer: number }
  | ({ do: 'offer'; peer: number; door: string } & Pick<Required<Offer>, 'sid' | 'n' | 'cameras'> & { epoch: string | null })
  | { do: 'answer'; peer: number; sdp: string }
  | { do: 'candidates'; peer: number; candidates: Candidate[] }
  | { do: 'send'; peer: number; message: ViewerMessage }
  | { do: 'ping'; peer: number }
  | { do: 'attach'; peer: number; mid: string; camera: string }
  | { do: 'detach'; peer: number; camera: string }
  | { do: 'promoted'; peer: number; door: string }
  | { do: 'refresh' }
  | { do: 'close'; peer: number; bye: Bye | null; door: string };

export interface CameraView {
  phase:
    | 'connecting'
    | 'starting'
    | 'live'
    | 'resuming'
    | 'reconnecting'
    | 'off'
    | 'unreachable'
    | 'signin'
    | 'refused';
  /** A sentence from the agent, or which side is not reachable: `agent` or `broker`. */
  text: string;
  /** ms since the last picture; null before the first. */
  age: number | null;
}

/** A way to the agent for signaling. It reports through the events given to its constructor. */
export interface Door {
  readonly name: string;
  open(): void;
  close(): void;
  /** The page woke: what seemed connected may be dead. */
  wake(): void;
  offer(peer: number, offer: Offer): void;
  /** `ice` or `bye` for an offer made here. */
  send(peer: number, message: ViewerMessage): void;
  /** The session has ended by other means. */
  forget(peer: number): void;
}

export interface DoorEvents {
  event(event: LinkEvent): void;
  /** The agent asks who is there (401 from HTTP), or the broker refuses the credentials. */
  unauthorized(text: string): void;
}

