// What a labeler has said about one solution, as plain data: no DOM, no network. Ratings are -1, 0, 1 or null.

/** @param payload the API's item */
export function open(payload) {
  return {
    assignment: payload.assignment,
    ratings: payload.steps.map((step) => ({ value: step.value, flagged: step.flagged })),
    completions: payload.steps.map((step) => step.completion),
    focus: nextStep(payload.steps),
    past: [],
  };
}

/** The step to judge next: the first unrated one, or the first error, or the last step. */
export function nextStep(ratings) {
  const error = ratings.findIndex((rating) => rating.value === -1);
  if (error >= 0) return error;
  const unrated = ratings.findIndex((rating) => rating.value === null);
  return unrated >= 0 ? unrated : ratings.length - 1;
}

/** The last step that may be rated: what follows an error, or an unrated step, has to wait. */
export const lastOpen = (item) => nextStep(item.ratings);

export const errorAt = (item) => item.ratings.findIndex((rating) => rating.value === -1);

/** "found_error", "solution", or null while something is missing. */
export function finishReason(item) {
  if (errorAt(item) >= 0) return "found_error";
  return item.ratings.every((rating) => rating.value !== null) ? "solution" : null;
}

/** Rate a step. A − leaves what follows unrated. The focus goes to the step to judge next. */
export function rate(item, step, value) {
  if (step > lastOpen(item)) return item;
  const ratings = item.ratings.map((rating, index) => {
    if (index === step) return { ...rating, value };
    return index > step && value === -1 ? { value: null, flagged: false } : rating;
  });
  return { ...item, ratings, focus: nextStep(ratings), past: [...item.past, item] };
}

/** Turn the unsure mark of a step; before its rating it waits for it. */
export function toggleUnsure(item, step) {
  if (step > lastOpen(item)) return item;
  const ratings = item.ratings.map((rating, index) => (index === step ? { ...rating, flagged: !rating.flagged } : rating));
  return { ...item, ratings, past: [...item.past, item] };
}

export const undo = (item) => item.past.at(-1) ?? item;

export const moveFocus = (item, by) => ({ ...item, focus: Math.min(Math.max(item.focus + by, 0), lastOpen(item)) });

/** The writes that bring the server from one state to another, in an order that it accepts. The server clears what
 * follows a − or a rating that is taken back, so that is not written. */
export function writes(before, after) {
  const server = before.ratings.map((rating) => ({ ...rating }));
  const found = [];
  after.ratings.forEach((rating, step) => {
    const known = server[step];
    const differs = known.value !== rating.value || (rating.value !== null && known.flagged !== rating.flagged);
    if (!differs) return;
    found.push({ completion: after.completions[step], value: rating.value, flagged: rating.value !== null && rating.flagged });
    server[step] = { ...rating };
    if (rating.value !== 0 && rating.value !== 1) {
      for (let later = step + 1; later < server.length; later += 1) server[later] = { value: null, flagged: false };
    }
  });
  return found;
}

/** The item with writes on top that have not reached the server yet. */
export function replay(item, pending) {
  return pending.reduce((state, write) => {
    const step = state.completions.indexOf(write.completion);
    if (step < 0) return state;
    const clears = write.value === -1 || write.value === null;
    const ratings = state.ratings.map((rating, index) => {
      if (index === step) return { value: write.value, flagged: write.flagged };
      return index > step && clears ? { value: null, flagged: false } : rating;
    });
    return { ...state, ratings, focus: nextStep(ratings) };
  }, item);
}
