// @ts-check
/**
 * The wait before the next attempt, in ms. Short, because a picture has to be back within 3 s of the cause ending however
 * long the cause lasted; jittered, so that a hundred pages do not knock together when an agent returns.
 * @param {number} failures attempts that failed in a row; 0 means go at once
 * @param {() => number} random as `Math.random`
 * @param {number} cap the longest wait
 */
export function retryDelay(failures, random, cap = 1500) {
  if (failures <= 0) return 0;
  const base = Math.min(cap, 250 * 2 ** Math.min(failures - 1, 10));
  return Math.round(base * (0.5 + 0.5 * random()));
}
