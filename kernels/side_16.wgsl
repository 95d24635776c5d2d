// Cooperative matrices of 16 by 16, f16 times f16 added in f32.

const SIDE: u32 = 16u;

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
