// Answers load and query requests with the npm package oxigraph; see ../session.go.
// usage: node oxigraph.mjs DIRECTORY-OF-NODE_MODULES
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'

const { Store } = createRequire(resolve(process.argv[2]) + '/')('oxigraph')
const store = new Store()

function load(path) {
  const start = process.hrtime.bigint()
  store.load(readFileSync(path, 'utf8'), { format: 'text/turtle', no_transaction: true })
  return { ns: [Number(process.hrtime.bigint() - start)], rows: store.size }
}

function query(text, budget) {
  const ns = []
  let rows = 0
  for (let left = budget; ns.length === 0 || (left > 0 && ns.length < 50); left -= ns.at(-1)) {
    const start = process.hrtime.bigint()
    rows = 0
    for (const _ of store.query(text)) rows++
    ns.push(Number(process.hrtime.bigint() - start))
  }
  return { ns, rows }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  console.log(JSON.stringify(request.load ? load(request.load) : query(request.query, request.budget)))
}
