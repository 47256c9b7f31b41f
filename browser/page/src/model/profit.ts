import type { Portfolio } from "session-service-client";

/** One position and what it has gained on paper. `profitShare` is of what it cost, null where it cost nothing. */
export interface PositionLine {
  readonly symbol: string;
  readonly quantity: number;
  readonly averageCost: number;
  readonly marketValue: number;
  readonly profit: number;
  readonly profitShare: number | null;
}

/** The account in figures. Profits are null until it is known with how much cash the account began. */
export interface AccountFigures {
  readonly totalValue: number;
  readonly cash: number;
  readonly openProfit: number;
  readonly totalProfit: number | null;
  readonly totalProfitShare: number | null;
  readonly positions: readonly PositionLine[];
}

/** Positions that are closed (no shares) are left out. */
export function accountFigures(portfolio: Portfolio, initialCash: number | null): AccountFigures {
  const positions = portfolio.positions.filter((position) => position.quantity !== 0).map(positionLine);
  const totalProfit = initialCash === null ? null : portfolio.totalValue - initialCash;
  return {
    totalValue: portfolio.totalValue,
    cash: portfolio.cashBalance,
    openProfit: positions.reduce((sum, position) => sum + position.profit, 0),
    totalProfit,
    totalProfitShare: totalProfit === null || !initialCash ? null : totalProfit / initialCash,
    positions,
  };
}

function positionLine(position: Portfolio["positions"][number]): PositionLine {
  const cost = position.quantity * position.averageCost;
  const profit = position.marketValue - cost;
  return {
    symbol: position.symbol,
    quantity: position.quantity,
    averageCost: position.averageCost,
    marketValue: position.marketValue,
    profit,
    profitShare: cost === 0 ? null : profit / Math.abs(cost),
  };
}
