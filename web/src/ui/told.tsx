/** A text of somebody's within a line of ours: it runs its own way, and turns nothing beside it round. */
import { straight } from "./straight";

export function Told({ text }: { text: string }) {
  return <bdi>{straight(text)}</bdi>;
}
