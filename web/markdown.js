// The little of Markdown that text panels use: headings, paragraphs, lists, `code`, **bold**, *stress*, [links](…).

import { element } from './elements.js';

/** The text as elements. */
export function markdown(text) {
  const blocks = text.trim().split(/\n\s*\n/).map((block) => block.split('\n'));
  return element('div', { class: 'text' }, ...blocks.map(block));
}

function block(lines) {
  const heading = /^(#{1,3})\s+(.*)/.exec(lines[0]);
  if (heading) {
    return element(`h${heading[1].length + 1}`, {}, ...inline([heading[2], ...lines.slice(1)].join(' ')));
  }
  if (lines.every((line) => /^(\s*[-*] |\s{2,})/.test(line))) {
    const items = lines.join('\n').split(/^\s*[-*] /m).slice(1);
    return element('ul', {}, ...items.map((item) => element('li', {}, ...inline(item))));
  }
  return element('p', {}, ...inline(lines.join(' ')));
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*]+\*|\[[^\]]+\]\([^\s]+\))/).map((part) => {
    if (part.startsWith('`')) return element('code', {}, part.slice(1, -1));
    if (part.startsWith('**')) return element('strong', {}, part.slice(2, -2));
    if (/^\*[^*]+\*$/.test(part)) return element('em', {}, part.slice(1, -1));
    const linked = /^\[([^\]]+)\]\((\S+)\)$/.exec(part);
    return linked ? link(linked[1], linked[2]) : part;
  });
}

/** Where a link of Kibana's leads to on this page: the saved search of a metric to the search in its rows. */
function link(label, target) {
  if (target.startsWith('discover#/view/')) {
    return element('a', { href: `#/rows?${new URLSearchParams({ metric: label })}` }, label);
  }
  return /^https?:\/\//.test(target) ? element('a', { href: target, rel: 'noreferrer' }, label) : label;
}
