// The tutorial: sample items on the real page, in dry mode (`state.dry === "tutorial"`, a NullOutbox, no server). It says
// what each rating meant and what follows from it. The page calls it; it draws its own box.
//
//   const tutorial = new Tutorial(state.items);     payloads as of the API, each with `title`, `intro`, `end` and
//                                                   hints: [{step, index?, text?, text_by_value?: {"-1", "0", "1"}, text_flagged?}]
//   tutorial.mount(beforeElement)                   the box goes in front of it (the list of steps); announces by itself
//   tutorial.item                                   the payload to put on the page
//   tutorial.onAct(state, act)                      after each act, with the folded state that it led to
//   tutorial.onSubmit(body)                         instead of what a submit leads to: says what was right, offers "next"
//   tutorial.addEventListener("item", …)            the next sample: put tutorial.item on the page
//   tutorial.addEventListener("done", …)            detail {skipped}: "start labeling" was pressed, or the tutorial skipped
//
// `state` is read as {ratings: {completion id: {value, flagged}}}. Give up, bad problem, skip and return count as submit.
