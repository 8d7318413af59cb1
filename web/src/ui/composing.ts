/** Keys that belong to an input method, which is still putting a word together. */

const OF_AN_INPUT_METHOD = 229;

/** Whether *event* is such a key: it ends a word or takes it back, and says nothing to the page. */
export function isComposing(event: { isComposing: boolean; keyCode: number }): boolean {
  // Safari tells of the one that ends the word only by its number.
  return event.isComposing || event.keyCode === OF_AN_INPUT_METHOD;
}
